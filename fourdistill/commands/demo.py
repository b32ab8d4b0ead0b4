"""`fourdistill demo`: a web page with sliders."""

from pathlib import Path
from typing import Annotated

import typer

from fourdistill.demo.address import check_address
from fourdistill.shipped import default_adapter, default_base, default_examples

EXAMPLES = """Examples:

`fourdistill demo`

`fourdistill demo --adapter models/adapter --steps 30 --port 8000 --open`
"""


def run(
    adapter: Annotated[str | None, typer.Option(help="Folder or Hub name; models/mini-adapter by default.")] = None,
    base: Annotated[str | None, typer.Option(help="Folder or Hub id; data/base/mini by default.")] = None,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, cuda:1, ...; the first GPU by default, or cpu.")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, max=100, help="Diffusion steps that the page begins with.")] = 20,
    examples: Annotated[
        Path | None, typer.Option(readable=False, help="Folder of pictures to pick from; examples by default.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen at; 0.0.0.0 lets other machines in.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen at.")] = 7860,
    open_browser: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
) -> None:
    """Serve a web page with a picture, sliders for time and camera, and the images that the pipeline generates.

    Only the embeddings of a picture are kept, until an hour after its page is closed. Uploads are removed after ten
    minutes, everything else when the server stops. Ctrl-C stops it.
    """
    base, adapter, pictures = default_base(base), default_adapter(adapter), examples or default_examples()

    check_address(host, port)
    from fourdistill.demo.serve import serve  # slow imports start here
    from fourdistill.inference.pipeline import FourDistillPipeline
    from fourdistill.models.base.precision import find_device

    on = find_device(device)
    pipe = FourDistillPipeline.from_pretrained(base, adapter).to(on)
    serve(
        pipe, examples=pictures, num_inference_steps=steps, host=host, port=port, open_browser=open_browser,
        announce=lambda address: typer.echo(f"Serving at {address}; stop with Ctrl-C."),
    )  # fmt: skip
