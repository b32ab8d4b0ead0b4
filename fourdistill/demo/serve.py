"""Serve the page, by default only on this machine, from a temporary folder that is removed when the server stops."""

import os
import signal
import tempfile
import webbrowser
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fourdistill.demo.address import bracketed, check_address, without_proxies
from fourdistill.demo.artist import Artist
from fourdistill.errors import InputError
from fourdistill.inference.pipeline import FourDistillPipeline

PICTURES = (".png", ".jpg", ".jpeg", ".webp")
MAX_BYTES = 20_000_000  # of an upload; its pixels are bounded by `read_picture`
MAX_WAITING = 64  # drawings in the queue; further requests are refused


def serve(
    pipe: FourDistillPipeline,
    *,
    examples: Path,
    num_inference_steps: int,
    host: str,
    port: int,
    open_browser: bool,
    announce: Callable[[str], object],
) -> None:
    """Serve until interrupted or terminated; `announce` is called with the address.

    `examples` is a folder of pictures, `num_inference_steps` the initial value of the page. Raises `InputError` if
    this machine does not have the address, its port is taken, or Gradio is not installed.
    """
    host = check_address(host, port)
    with tempfile.TemporaryDirectory(prefix="fourdistill-demo-") as folder:
        # Gradio reads these when it is imported, hence the imports here.
        os.environ |= {"GRADIO_TEMP_DIR": folder, "GRADIO_ANALYTICS_ENABLED": "False"}
        with without_proxies():
            page, pictures = make_page(pipe, examples, num_inference_steps)
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # like Ctrl-C: the folder is removed
        try:
            with without_proxies():
                launch(page, pictures, host, port)
            address = f"http://{bracketed(host)}:{port}"
            announce(address)
            if open_browser:
                webbrowser.open(address)
            page.block_thread()
        finally:
            page.close(verbose=False)


def make_page(pipe: FourDistillPipeline, examples: Path, num_inference_steps: int) -> tuple[Any, Sequence[Path]]:
    """A `gradio.Blocks`, and the examples that it shows; raises `InputError` if Gradio is not installed."""
    try:
        from fourdistill.demo.handlers import Handlers
        from fourdistill.demo.page import build_page
    except ModuleNotFoundError as error:
        if error.name != "gradio":
            raise
        raise InputError("demo: expected Gradio; pip install 'fourdistill[demo]'") from error

    pictures = find_examples(examples)
    return build_page(Handlers(Artist(pipe), pictures), pipe.adapter.sampling, num_inference_steps), pictures


def launch(page: Any, examples: Sequence[Path], host: str, port: int) -> None:
    """Start serving a `gradio.Blocks`, without external resources or telemetry.

    Of this machine's files, only uploads and `examples` are accessible.
    """
    import gradio as gr

    # System fonts, and more contrast than Gradio's default colours.
    theme = gr.themes.Default(
        primary_hue="indigo", font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
    ).set(
        block_info_text_color="*neutral_600", block_info_text_color_dark="*neutral_300",
        body_text_color_subdued="*neutral_600", body_text_color_subdued_dark="*neutral_300",
        button_primary_background_fill="*primary_600", button_primary_background_fill_hover="*primary_700",
    )  # fmt: skip
    try:
        page.queue(max_size=MAX_WAITING).launch(
            server_name=bracketed(host), server_port=port, inbrowser=False, share=False, ssr_mode=False, pwa=False,
            mcp_server=False, enable_monitoring=False, run_history=False, footer_links=[], max_file_size=MAX_BYTES,
            allowed_paths=[str(path) for path in examples], quiet=True, prevent_thread_lock=True, theme=theme,
            css_paths=Path(__file__).with_name("page.css"),
        )  # fmt: skip
    except OSError as error:
        raise InputError(f"--host, --port: expected an address here and a free port, found {host}:{port}") from error


def find_examples(folder: Path) -> Sequence[Path]:
    """The pictures of a folder, sorted by name; empty if the folder does not exist."""
    return sorted(path.resolve() for path in folder.glob("*") if path.suffix.lower() in PICTURES)
