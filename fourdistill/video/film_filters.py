"""Convert decoded frames to cropped and resized images for display, with FFmpeg's filters (through PyAV).

The order is: deinterlace, turn upright, make pixels square, crop, resize. Transparency, high dynamic range and wide
gamut are handled last, on the small image.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import av
import av.filter
import numpy as np
from numpy.typing import NDArray
from PIL import ImageColor

from fourdistill.video.film_reader import VideoError
from fourdistill.video.picture_format import PictureFormat, may_show_through
from fourdistill.video.sdr import SDR, to_sdr

SCALER = "bicubic+accurate_rnd+full_chroma_int+bitexact"
RGB = "rgb24"
YUV = "yuvj444p"
"""Pixel format of JPEGs with full chroma: BT.601, full range, planes of Y, Cb and Cr."""
_LAYOUTS = {(False, False): RGB, (False, True): "rgba", (True, False): "rgb48le", (True, True): "rgba64le"}


@dataclass(frozen=True)
class Cut:
    """The crop of each picture of a film, and its output size."""

    box: tuple[int, int, int, int]
    """(left, top, width, height) in pixels of the upright picture."""
    size: tuple[int, int]
    """(width, height) to which the box is resized."""
    layout: str = RGB
    """RGB, or YUV where that saves a conversion; YUV images have FFmpeg's layout."""


def is_sdr(picture: PictureFormat) -> bool:
    """Whether a film's colours fit a JPEG without conversion."""
    return picture.transfer == SDR and not picture.wide_gamut


def cut_frames(
    frames: Iterable[tuple[int, "av.VideoFrame"]], picture: PictureFormat, cut: Cut, background: str
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Numbered frames of a film => numbered images: (H, W, 3), or (3, H, W) for `YUV`.

    Raises `VideoError` if the frame size changes, because the crop would then be wrong.
    """
    graph, form = None, None
    for number, frame in frames:
        if (frame.width, frame.height) != picture.stored:
            raise VideoError(
                f"expected frames of one size, found {picture.stored[0]}x{picture.stored[1]} "
                f"and {frame.width}x{frame.height}"
            )
        fields = picture.interlaced or frame.interlaced_frame or (graph is not None and graph.fields)
        found = (frame.format.name, frame.colorspace, frame.color_range, fields)
        if graph is None or found != form:
            if graph:
                yield from graph.flush()
            graph, form = _Graph(frame, picture, cut, background, fields), found
        yield from graph.push(number, frame)
    if graph:
        yield from graph.flush()


class _Graph:
    """One filter chain, for frames of one pixel format."""

    def __init__(self, frame: Any, picture: PictureFormat, cut: Cut, background: str, fields: bool) -> None:
        self.fields = fields
        self._cut, self._picture, self._background = cut, picture, background
        self._numbers: deque[int] = deque()
        self._alpha = may_show_through(frame) and cut.layout == RGB
        self._deep = not is_sdr(picture)
        self._layout = _LAYOUTS[self._deep, self._alpha] if cut.layout == RGB else cut.layout
        self._graph = av.filter.Graph()
        source = self._graph.add(
            "buffer",
            video_size=f"{frame.width}x{frame.height}",
            pix_fmt=frame.format.name,
            time_base="1/1",
            colorspace=str(frame.colorspace),
            range=str(frame.color_range),
        )
        chain = [self._graph.add(name, arguments or None) for name, arguments in self._filters()]
        self._graph.link_nodes(source, *chain, self._graph.add("buffersink")).configure()

    def _filters(self) -> Iterator[tuple[str, str]]:
        """(name, arguments) of each filter."""
        picture, cut = self._picture, self._cut
        # Where a filter does not support a pixel format, FFmpeg inserts its own scaler, whose output depends on the
        # CPU. An explicit scaler before the filter avoids this; it passes frames through if no conversion is needed.
        yield "scale", f"flags={SCALER}"
        if picture.field_order:
            yield "setfield", picture.field_order
        if self.fields:
            yield "bwdif", "mode=send_frame:deint=interlaced"  # frames without the flag pass unchanged
        yield from picture.turns
        if picture.pixel_aspect != 1:
            yield "scale", f"{picture.width}:{picture.height}:flags={SCALER}"
        if self._alpha:
            # Premultiplied, so that resizing weights each colour by its opacity and ignores fully transparent pixels.
            yield "scale", f"flags={SCALER}"
            yield "format", "gbrap16le" if self._deep else "gbrap"
            yield "premultiply", "inplace=1"
        left, top, width, height = cut.box
        yield "crop", f"{width}:{height}:{left}:{top}:exact=1"
        jpeg = ":out_color_matrix=bt601:out_range=pc" if self._layout == YUV else ""
        yield "scale", f"{cut.size[0]}:{cut.size[1]}:flags={SCALER}{jpeg}"
        yield "format", self._layout

    def push(self, number: int, frame: Any) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Feed one frame; yields the images that are finished, in the same order."""
        self._numbers.append(number)
        frame.pts = None  # the filters need only the order
        self._graph.vpush(frame)
        yield from self._pull()

    def flush(self) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Yield the last images."""
        self._graph.vpush(None)
        yield from self._pull()

    def _pull(self) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        while self._numbers:
            try:
                frame = self._graph.vpull()
            except (av.BlockingIOError, av.EOFError):
                return
            yield self._numbers.popleft(), self._finish(frame)

    def _finish(self, frame: Any) -> NDArray[np.uint8]:
        image = frame.to_ndarray()
        if self._layout == YUV:
            return image
        alpha = image[..., 3:].astype(np.float32) / np.iinfo(image.dtype).max if self._alpha else None
        image = image[..., :3]
        if self._deep:
            image = to_sdr(image, self._picture.transfer, self._picture.wide_gamut)
        if alpha is not None:
            paper = np.array(ImageColor.getrgb(self._background)[:3])
            image = np.clip(np.rint(image + (1 - alpha) * paper), 0, 255).astype(np.uint8)
        return image
