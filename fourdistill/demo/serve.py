"""Serve the page: on this machine alone unless told otherwise, from a folder of its own that goes with the server."""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from fourdistill.demo.artist import Artist
from fourdistill.errors import InputError
from fourdistill.inference.pipeline import FourDistillPipeline

LOOPBACK = ("127.0.0.1", "localhost", "::1")
PICTURES = (".png", ".jpg", ".jpeg", ".webp")
MAX_WAITING = 64  # drawings in the queue; whoever comes after is told that it is full


def serve(
    pipe: FourDistillPipeline, *, examples: Path, num_inference_steps: int, host: str, port: int, open_browser: bool
) -> None:
    """Serve until interrupted. Raises `InputError` where the port is taken or Gradio is not installed."""
    with tempfile.TemporaryDirectory(prefix="fourdistill-demo-") as folder:
        # Gradio reads these when it is imported, hence the imports below.
        os.environ |= {"GRADIO_TEMP_DIR": folder, "GRADIO_ANALYTICS_ENABLED": "False"}
        try:
            import gradio as gr
        except ImportError as error:
            raise InputError("gradio: expected it installed; pip install 'fourdistill[demo]'") from error
        from fourdistill.demo.handlers import Handlers
        from fourdistill.demo.page import build_page
        from fourdistill.demo.uploads import MAX_BYTES

        page = build_page(Handlers(Artist(pipe), find_examples(examples)), num_inference_steps)
        # Fonts that the machine has: nothing is fetched from elsewhere. Darker than Gradio's own for contrast.
        theme = gr.themes.Default(
            primary_hue="indigo", font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
        ).set(
            block_info_text_color="*neutral_600", block_info_text_color_dark="*neutral_300",
            button_primary_background_fill="*primary_600", button_primary_background_fill_hover="*primary_700",
        )  # fmt: skip
        try:
            page.queue(max_size=MAX_WAITING).launch(
                server_name=host, server_port=port, inbrowser=open_browser, share=False, ssr_mode=False, pwa=False,
                mcp_server=False, enable_monitoring=False, run_history=False, footer_links=[], max_file_size=MAX_BYTES,
                theme=theme, css_paths=Path(__file__).with_name("page.css"),
            )  # fmt: skip
        except OSError as error:
            raise InputError(f"--port {port}: {error}") from error
        finally:
            page.close(verbose=False)


def find_examples(folder: Path) -> Sequence[Path]:
    """The pictures of a folder by name; none where there is no such folder."""
    return sorted(path.resolve() for path in folder.glob("*") if path.suffix.lower() in PICTURES)
