"""Real-world videos: time and order of every frame, cut videos, picture properties of streams."""

import hashlib
import json
import struct
import subprocess
from fractions import Fraction
from typing import Any

import av
import av.logging
import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image
from stage_settings import frame_settings
from tiny_scenes import SIZE, gray_film, qualisys_xml, ring_cameras, write_film
from typer.testing import CliRunner

from fourdistill.cli import app
from fourdistill.errors import InputError
from fourdistill.frames.extract import extract_frames
from fourdistill.sources.readers import SourceFolder, read_source
from fourdistill.sources.readers.listing import VIDEO_SUFFIXES, list_videos
from fourdistill.tables import FRAMES, read_table
from fourdistill.video.film_clock import PacketTime, continue_clock, list_decoded, list_frames
from fourdistill.video.film_filters import SCALER, Cut, _Graph
from fourdistill.video.film_reader import decode_film
from fourdistill.video.probe import VideoError, probe_video
from fourdistill.video.sdr import to_sdr

NUM = 24
LEVELS = [10 + 10 * index for index in range(NUM)]


def extract(tmp_path, source, out="out", **options: Any):
    """(rows with their pictures, report) of one source."""
    folder = tmp_path / out
    options = {"size": SIZE} | options
    scenes = read_source(source)
    extract_frames(
        scenes,
        folder / "frames",
        folder / "t.parquet",
        folder / "s.parquet",
        folder / "r.json",
        frame_settings(**options),
    )
    rows = read_table(folder / "t.parquet", FRAMES).to_pylist()
    for row in rows:
        row["image"] = np.asarray(Image.open(folder / "frames" / row["path"])).astype(float)
    return rows, json.loads((folder / "r.json").read_text())


def shown(rows):
    """The frame number of each row's picture, from its gray level."""
    return [round((row["image"].mean() - LEVELS[0]) / 10) for row in rows]


def ffmpeg(*arguments, frames=None, pix_fmt="rgb24", rate=25):
    """Run ffmpeg, on raw frames (N, H, W, C) if given."""
    raw = [] if frames is None else ["-f", "rawvideo", "-pix_fmt", pix_fmt, "-r", str(rate), "-s",
                                     f"{frames.shape[2]}x{frames.shape[1]}", "-i", "-"]  # fmt: skip
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", "-y", *raw, *map(str, arguments)]
    subprocess.run(command, input=None if frames is None else frames.tobytes(), check=True)


def copy_packets(source, target, first):
    """A stream copy without the first packets."""
    with av.open(str(source)) as whole, av.open(str(target), "w") as cut:
        stream = whole.streams.video[0]
        copied = cut.add_stream_from_template(stream)
        for number, packet in enumerate(whole.demux(stream)):
            if packet.size and number >= first:
                packet.stream = copied
                cut.mux(packet)


def rot_packet(source, target, rotten):
    """A copy with one packet overwritten by zeros."""
    with av.open(str(source)) as container:
        packet = [packet for packet in container.demux(video=0) if packet.size][rotten]
        data = bytes(packet)
    film = source.read_bytes()
    assert film.count(data) == 1
    target.write_bytes(film.replace(data, bytes(len(data))))


# --- times of frames

RNG = np.random.default_rng(1)
INTERVALS = {
    "jitter": 1 / 30 + RNG.uniform(-0.008, 0.008, NUM),
    "drops": np.where(RNG.random(NUM) < 0.5, 1 / 60, 1 / 30),
    "bursts": np.where(np.arange(NUM) % 10 < 8, 1 / 60, 0.5),
    "one_of_4_ms": np.where(np.arange(NUM) == 11, 0.004, 1 / 30),
    "slow_end": np.where(np.arange(NUM) < 18, 1 / 30, 0.4),
}


def times_of(name):
    return np.concatenate([[0], np.cumsum(INTERVALS[name])])[:NUM].round(3)


def write_all(folder):
    """Write the five patterns in different containers, some with B-frames."""
    for number, name in enumerate(INTERVALS):
        ending = (".mp4", ".mkv", ".mov", ".mp4", ".webm")[number]
        codec = "libvpx-vp9" if ending == ".webm" else "libx264"
        write_film(
            folder / f"{name}{ending}", gray_film(LEVELS), times_of(name).tolist(), codec, bf=str(number % 2 * 2)
        )


def digest(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return hashlib.sha256(b"".join(str(p.relative_to(folder)).encode() + p.read_bytes() for p in files)).hexdigest()


def test_every_frame_of_a_variable_rate_has_its_own_time_in_every_run(tmp_path):
    write_all(tmp_path / "raw")
    digests = set()
    for _ in range(10):
        rows, report = extract(tmp_path, SourceFolder(tmp_path / "raw", "video"))
        digests.add(digest(tmp_path / "out"))
    assert len(digests) == 1
    assert report["bad"] == report["notes"] == []
    for name in INTERVALS:
        mine = [row for row in rows if row["scene"] == name]
        np.testing.assert_allclose([row["timestamp_s"] for row in mine], times_of(name), atol=1e-4)
        assert shown(mine) == [row["frame_index"] for row in mine] == list(range(NUM))


@pytest.mark.parametrize("ending", [".mp4", ".mkv", ".avi", ".ts", ".webm", ".mpg", ".flv"])
def test_times_and_order_in_every_container(tmp_path, ending):
    """Each container has its own time base, from 1/1000 s (Matroska) to the frame rate (AVI); B-frames if supported."""
    codec = {".webm": "libvpx", ".mpg": "mpeg2video", ".avi": "mpeg4"}.get(ending, "libx264")
    quality = ("-crf", "1") if codec == "libx264" else ("-q:v", "1", "-b:v", "4M")
    (tmp_path / "raw").mkdir()
    frames = gray_film(LEVELS, (64, 48))
    ffmpeg("-c:v", codec, *quality, "-bf", "2", "-pix_fmt", "yuv420p", tmp_path / "raw" / f"a{ending}", frames=frames)
    rows, _ = extract(tmp_path, SourceFolder(tmp_path / "raw", "video"))
    assert shown(rows) == list(range(NUM))
    times = np.array([row["timestamp_s"] for row in rows])
    np.testing.assert_allclose(times - times[0], np.arange(NUM) / 25, atol=1.1e-3)


@pytest.mark.parametrize("options", [{"fps": 10.0}, {"max_frames": 7}, {"lens": True}])
def test_chosen_frames_and_undistorted_ones_show_what_was_there_at_their_times(tmp_path, options):
    times = times_of("jitter")
    source, film = SourceFolder(tmp_path / "raw", "video", fps=options.pop("fps", None)), tmp_path / "raw" / "a.mp4"
    if options.pop("lens", False):
        scene = tmp_path / "raw" / "gym"
        (scene / "calibration").mkdir(parents=True)
        xml = qualisys_xml(ring_cameras(1), (SIZE, SIZE), 40.0, (-0.05, 0.0, 0.0, 0.0))
        (scene / "calibration" / "Calib.qca.txt").write_text(xml)
        source, film = SourceFolder(tmp_path / "raw", "qualisys"), scene / "videos" / "cam01.mp4"
    write_film(film, gray_film(LEVELS), times.tolist(), bf="2")
    rows, _ = extract(tmp_path, source, **options)
    assert shown(rows) == [int(np.abs(times - row["timestamp_s"]).argmin()) for row in rows]
    np.testing.assert_allclose([row["timestamp_s"] for row in rows], times[shown(rows)], atol=1e-4)
    assert len(rows) == (7 if options else NUM if source.fps is None else 8)


def test_of_frames_of_one_time_the_first_is_kept(tmp_path):
    """Matroska counts in milliseconds: three frames within one have the same time."""
    times = [0.0, 0.1, 0.2, 0.2, 0.2, 0.201, 0.3]
    (tmp_path / "raw").mkdir()
    with av.open(str(tmp_path / "raw" / "a.mkv"), "w") as container:
        stream = container.add_stream("mjpeg", rate=1000)
        stream.width, stream.height, stream.pix_fmt = SIZE, SIZE, "yuvj420p"
        for image, time_s in zip(gray_film(LEVELS[: len(times)]), times, strict=True):
            for packet in stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")):
                packet.pts = packet.dts = round(1000 * time_s)
                packet.time_base = Fraction(1, 1000)
                container.mux(packet)
    rows, report = extract(tmp_path, SourceFolder(tmp_path / "raw", "video"))
    assert [row["timestamp_s"] for row in rows] == [0.0, 0.1, 0.2, 0.201, 0.3]
    assert shown(rows) == [0, 1, 2, 5, 6]
    assert report["notes"] == [
        {"scene": "a", "camera": "cam00", "notes": ["2 frames have the time of another and are left out"]}
    ]


def test_an_avi_that_dropped_frames_keeps_its_times(tmp_path):
    """Empty packets mark the dropped frames."""
    times = [0.0, 0.04, 0.2, 0.24, 0.4]
    with av.open(str(tmp_path / "a.avi"), "w") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = SIZE, SIZE, "yuvj420p"
        for image, time_s in zip(gray_film(LEVELS[:5]), times, strict=True):
            for packet in stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")):
                packet.pts = packet.dts = round(25 * time_s)
                packet.time_base = Fraction(1, 25)
                container.mux(packet)
    info = probe_video(tmp_path / "a.avi")
    np.testing.assert_allclose(info.timestamps_s, times)
    assert not info.notes()


def test_a_clock_that_begins_again_goes_on():
    """Two joined recordings: the second starts one frame interval after the end of the first."""
    packets = [PacketTime(Fraction(n % 4, 10) + 1, Fraction(n % 4, 10) + 1, n % 4 == 0) for n in range(8)]
    assert [float(p.shown_s or 0) for p in continue_clock(packets)] == pytest.approx([1 + n / 10 for n in range(8)])


def test_joined_transport_streams_are_not_interleaved(tmp_path):
    (tmp_path / "raw").mkdir()
    for number, levels in enumerate((LEVELS[:12], LEVELS[12:])):
        ffmpeg("-c:v", "libx264", "-crf", "1", tmp_path / f"{number}.ts", frames=gray_film(levels))
    joined = b"".join((tmp_path / f"{number}.ts").read_bytes() for number in range(2))
    (tmp_path / "raw" / "a.ts").write_bytes(joined)
    rows, report = extract(tmp_path, SourceFolder(tmp_path / "raw", "video"))
    assert shown(rows) == list(range(NUM)) and not report["bad"]
    np.testing.assert_allclose(np.diff([row["timestamp_s"] for row in rows]), 1 / 25, atol=1e-4)


# --- decodable frames


@pytest.fixture(scope="module")
def groups(tmp_path_factory):
    """Videos of 24 frames with a key frame every 8, one per codec; gray with texture. Read only."""
    folder = tmp_path_factory.mktemp("groups")
    texture = np.random.default_rng(0).integers(-8, 9, (1, 48, 64, 1))
    frames = np.clip(gray_film(LEVELS, (64, 48)).astype(int) + texture, 0, 255).astype(np.uint8)
    x264, x265 = "keyint=8:min-keyint=8:scenecut=0:bframes=2:ref=4", "log-level=error:pools=1:keyint=8:min-keyint=8"
    yuv = ("-pix_fmt", "yuv420p")
    ffmpeg("-c:v", "libx264", *yuv, "-crf", 8, "-x264-params", x264, folder / "h264.mkv", frames=frames)
    open_ = f"{x264}:open-gop=1"
    ffmpeg("-c:v", "libx264", *yuv, "-crf", 8, "-x264-params", open_, folder / "h264open.mkv", frames=frames)
    open_ = f"{x265}:open-gop=1:bframes=3:b-adapt=0:qp=12"
    ffmpeg("-c:v", "libx265", *yuv, "-x265-params", open_, folder / "hevcopen.mkv", frames=frames)
    ffmpeg("-c:v", "mpeg2video", "-g", 8, "-bf", 2, "-q:v", 2, folder / "mpeg2.ts", frames=frames)
    ffmpeg("-c:v", "libvpx-vp9", "-g", 8, "-crf", 8, "-b:v", 0, *yuv, folder / "vp9.webm", frames=frames)
    return folder


@pytest.mark.parametrize("first", [3, 8, 9])
@pytest.mark.parametrize("name", ["h264.mkv", "h264open.mkv", "hevcopen.mkv", "mpeg2.ts", "vp9.webm"])
def test_a_film_cut_between_key_frames_keeps_what_decodes(tmp_path, groups, name, first):
    """The remaining frames show the right pictures at the right times; lost packets are counted and inspected."""
    (tmp_path / "raw").mkdir()
    copy_packets(groups / name, tmp_path / "raw" / name, first)
    whole = probe_video(groups / name)
    rows, report = extract(tmp_path, SourceFolder(tmp_path / "raw", "video"))
    assert not report["bad"]
    times = np.array([row["timestamp_s"] for row in rows])
    start = whole.timestamps_s[-1] - times[-1] if name.endswith(".ts") else 0.0  # this container shifts its start
    numbers = [int(np.abs(whole.timestamps_s - time - start).argmin()) for time in times]
    assert shown(rows) == numbers == list(range(numbers[0], NUM))
    with av.open(str(groups / name)) as container:  # decodable frames begin at the first remaining key frame
        packets = [packet for packet in container.demux(video=0) if packet.size]
    first_pts = min(packet.pts or 0 for packet in packets)
    keys = [float(((packet.pts or 0) - first_pts) * packet.time_base) for packet in packets if packet.is_keyframe]
    assert whole.timestamps_s[numbers[0]] in [pytest.approx(key) for key in keys]
    assert len(rows) >= 8
    lost = NUM - first - len(rows)
    notes = [f"{lost} packets give no picture"] if lost else []
    assert [line for entry in report["notes"] for line in entry["notes"]] == notes
    found = json.loads(CliRunner().invoke(app, ["inspect", str(tmp_path / "raw"), "--json"]).stdout)
    assert found["scenes"][0]["cameras"][0]["notes"] == notes
    assert found["scenes"][0]["cameras"][0]["num_frames"] == len(rows)


@pytest.mark.parametrize("cut", [(0.2, 1.0), (0.0, 0.93), (0.3, 0.93)])
def test_a_transport_stream_starts_and_ends_anywhere(tmp_path, groups, cut):
    data = (groups / "mpeg2.ts").read_bytes()
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "a.ts").write_bytes(data[int(cut[0] * len(data)) : int(cut[1] * len(data))])
    rows, report = extract(tmp_path, SourceFolder(tmp_path / "raw", "video"))
    assert not report["bad"] and len(rows) >= 6
    times = np.array([row["timestamp_s"] for row in rows])
    intervals = np.diff(times) * 25
    np.testing.assert_allclose(intervals, np.diff(shown(rows)), atol=1e-2)  # lost frames leave a gap


def test_the_last_frames_of_a_matroska_may_be_anywhere_in_its_duration(tmp_path):
    """The header's duration is that of a long subtitle."""
    write_film(tmp_path / "a.mp4", gray_film([50, 60]))
    (tmp_path / "a.srt").write_text("1\n00:00:00,100 --> 00:01:00,000\nThe end\n")
    copies = ("-map", "0:v", "-map", "1:s", "-c:v", "copy")
    ffmpeg("-i", tmp_path / "a.mp4", "-i", tmp_path / "a.srt", *copies, tmp_path / "b.mkv")
    assert len(probe_video(tmp_path / "b.mkv").timestamps_s) == 2


@pytest.mark.parametrize("threads", [1, 4])
def test_rot_just_past_the_last_frame_that_is_kept_is_no_matter(tmp_path, groups, threads):
    """For any number of decoding threads: with B-frames, each thread holds some frames back."""
    rot_packet(groups / "h264.mkv", tmp_path / "a.mkv", 16)  # the third key frame
    info = probe_video(tmp_path / "a.mkv")
    kept = info.packets[:16].tolist()
    assert [number for number, _ in decode_film(tmp_path / "a.mkv", (), kept, threads, strict=True)] == kept
    with pytest.raises(VideoError, match="rotten: packet 16 at"):
        list(decode_film(tmp_path / "a.mkv", (), info.packets[:17].tolist(), threads, strict=True))


def test_edit_lists_and_fragments_are_no_damage(tmp_path, groups):
    cut = ("-ss", "0.4", "-t", "0.36", "-i", groups / "h264.mkv", "-c", "copy")
    ffmpeg(*cut, tmp_path / "cut.mp4")
    info = probe_video(tmp_path / "cut.mp4")
    with av.open(str(tmp_path / "cut.mp4")) as container:
        assert container.streams.video[0].frames > len(info.timestamps_s) > 8  # cut frames are there, but not shown
    assert not info.notes() and info.timestamps_s[0] == 0
    ffmpeg("-i", groups / "h264.mkv", "-c", "copy", "-movflags", "frag_keyframe+empty_moov", tmp_path / "b.mp4")
    assert len(probe_video(tmp_path / "b.mp4").timestamps_s) == NUM
    data = (tmp_path / "b.mp4").read_bytes()
    (tmp_path / "b.mp4").write_bytes(data[: int(0.7 * len(data))])
    with pytest.raises(VideoError, match="truncated: expected"):
        probe_video(tmp_path / "b.mp4")


def test_a_raw_stream_counts_at_a_rate_that_is_said(tmp_path, groups):
    ffmpeg("-i", groups / "h264.mkv", "-c", "copy", tmp_path / "a.h264")
    info = probe_video(tmp_path / "a.h264")
    np.testing.assert_allclose(info.timestamps_s, np.arange(NUM) / 25)
    assert info.notes() == ["no times in the file: 25.0 frames a second are assumed"]


def packet(time, is_key=False, is_cut=False):
    return PacketTime(None if time is None else Fraction(time), None, is_key, is_cut)


def test_second_fields_are_no_frames_of_their_own():
    """The second packet of a field pair has no time; `list_frames` is None if a sample does not match the packets."""
    fields = [packet(0, is_key=True), packet(None), packet(2), packet(None), packet(1), packet(None)]
    listed = list_frames(fields, [0, 4, 2], 6)
    assert listed is not None and listed.packets.tolist() == [0, 4, 2] and listed.times_s.tolist() == [0, 1, 2]
    timed = [packet(number, is_key=number == 0) for number in range(6)]
    assert list_frames(timed, [0, 2, 4], 6) is None
    assert list_decoded(timed, [0, 2, 4], 25.0).num_without_picture == 3


# --- picture properties of streams


def test_a_film_with_transparency_lies_on_the_background(tmp_path):
    rgba = np.zeros((3, SIZE, SIZE, 4), np.uint8)
    rgba[..., :3] = (0, 255, 0)  # colours of transparent pixels must not be visible
    rgba[:, 6:18] = (220, 30, 30, 255)
    rgba[:, 20:] = (220, 30, 30, 128)
    (tmp_path / "raw").mkdir()
    write = {
        "prores.mov": ("-c:v", "prores_ks", "-profile:v", "4444", "-pix_fmt", "yuva444p10le"),
        "animation.mov": ("-c:v", "qtrle", "-pix_fmt", "argb"),
        "vp9.webm": ("-c:v", "libvpx-vp9", "-pix_fmt", "yuva420p", "-lossless", "1", "-auto-alt-ref", "0"),
    }
    for name, arguments in write.items():
        ffmpeg(*arguments, tmp_path / "raw" / name, frames=rgba, pix_fmt="rgba")
    rows, report = extract(tmp_path, SourceFolder(tmp_path / "raw", "video", background="blue"))
    assert len(rows) == 9
    for row in rows:
        np.testing.assert_allclose(row["image"][2, 16], (0, 0, 255), atol=4)
        np.testing.assert_allclose(row["image"][12, 16], (220, 30, 30), atol=4)
        np.testing.assert_allclose(row["image"][26, 16], (110, 15, 142), atol=4)
    assert [entry["notes"] for entry in report["notes"]] == [["transparent: laid on blue"]] * 3


@pytest.mark.parametrize(
    ("transfer", "signals"),
    [("arib-std-b67", (0.75, 0.38, 0.0)), ("smpte2084", (0.5807, 0.3797, 0.0))],  # BT.2408, table 1
)
def test_high_dynamic_range_is_brought_to_sdr(tmp_path, transfer, signals):
    """Diffuse white becomes white, 18 % grey that of sRGB, black stays black; noted once."""
    frame = np.full((3, 64, 96), 512, "<u2")  # 10 bits, limited range
    for number, signal in enumerate(signals):
        frame[0, :, 32 * number : 32 * number + 32] = round(64 + 876 * signal)
    (tmp_path / "raw").mkdir()
    colours = f"log-level=error:pools=1:qp=4:colorprim=bt2020:transfer={transfer}:colormatrix=bt2020nc"
    raw = ("-f", "rawvideo", "-pix_fmt", "yuv444p10le", "-s", "96x64", "-i", "-")
    command = [
        imageio_ffmpeg.get_ffmpeg_exe(),
        "-loglevel",
        "error",
        *raw,
        "-c:v",
        "libx265",
        "-pix_fmt",
        "yuv420p10le",
    ]
    target = tmp_path / "raw" / "a.mov"
    subprocess.run([*command, "-x265-params", colours, str(target)], input=frame.tobytes() * 2, check=True)
    rows, report = extract(tmp_path, SourceFolder(tmp_path / "raw", "video"), size=64)
    white, grey, black = (rows[1]["image"][32, column] for column in (4, 32, 60))
    assert white.min() >= 235
    np.testing.assert_allclose(grey, 118, atol=3)
    assert black.max() <= 3
    kind = "HLG" if "arib" in transfer else "PQ"
    assert report["notes"][0]["notes"] == [f"HDR ({kind}) is brought to SDR"]


def test_wide_colours_of_sdr_films():
    """BT.2020's red is outside sRGB; greys do not change."""
    image = np.array([[[65535, 0, 0], [30000, 30000, 30000]]], np.uint16)
    red, grey = to_sdr(image, "SDR", wide_gamut=True)[0]
    assert red.tolist() == [255, 0, 0] and grey.tolist() == [117, 117, 117]


@pytest.mark.parametrize("arguments", [
    ("-c:v", "qtrle", "-pix_fmt", "argb"),  # transparent
    ("-c:v", "png", "-pix_fmt", "pal8"),
    ("-c:v", "rawvideo", "-pix_fmt", "uyvy422", "-vf", "setsar=4/3", "-field_order", "tt"),
])  # fmt: skip
def test_every_scaler_is_one_that_works_alike_on_every_processor(tmp_path, arguments):
    """FFmpeg inserts no scaler of its own, which would have other flags."""
    ffmpeg(*arguments, tmp_path / "a.mov", frames=np.full((2, SIZE, SIZE, 3), 90, np.uint8))
    info = probe_video(tmp_path / "a.mov")
    cut = Cut((0, 0, SIZE, SIZE), (16, 16))
    with av.open(str(tmp_path / "a.mov")) as container:
        frame = next(container.decode(video=0))
    av.logging.set_level(av.logging.DEBUG)
    try:
        with av.logging.Capture() as logs:
            graph = _Graph(frame, info.picture, cut, "white", info.picture.interlaced)
    finally:
        av.logging.set_level(None)
    assert not [line for _, _, line in logs if "auto-inserting" in line]
    assert all(SCALER in options for name, options in graph._filters() if name == "scale")


def woven(first_field):
    """Interlaced frames of a bar that moves 2 px per field; 0: top field first, 1: bottom field first."""
    fields = np.full((16, 48, 64, 3), 30, np.uint8)
    for number in range(16):
        fields[number, :, 4 + 2 * number : 14 + 2 * number] = 220
    frames = fields[::2].copy()
    frames[:, 1 - first_field :: 2] = fields[1::2, 1 - first_field :: 2]
    return frames


@pytest.mark.parametrize(
    ("name", "first_field", "arguments"),
    [
        ("a.mp4", 0, ("-c:v", "libx264", "-crf", "1", "-x264-params", "tff=1", "-pix_fmt", "yuv420p")),
        ("a.ts", 1, ("-c:v", "mpeg2video", "-q:v", "1", "-flags", "+ilme+ildct")),
        ("a.mov", 0, ("-c:v", "mjpeg", "-q:v", "1", "-field_order", "tt", "-pix_fmt", "yuvj422p")),  # from the header
    ],
)
@pytest.mark.parametrize("fps", [None, 6.25])
def test_an_interlaced_film_shows_no_combs(tmp_path, name, first_field, arguments, fps):
    """One picture per frame, from its first field, at its time."""
    (tmp_path / "raw").mkdir()
    order = ("-vf", f"setfield={'bff' if first_field else 'tff'}")
    ffmpeg(*order, *arguments, tmp_path / "raw" / name, frames=woven(first_field))
    rows, report = extract(tmp_path, SourceFolder(tmp_path / "raw", "video", fps=fps), size=48)
    assert len(rows) == (8 if fps is None else 2)
    for row in rows:
        gray = row["image"].mean(-1)
        assert np.abs(gray[1:-1] - (gray[:-2] + gray[2:]) / 2).max() < 8  # combs would be 190
        bright = np.clip(gray[16:32] - 60, 0, None).sum(0)
        number = round((row["timestamp_s"] - rows[0]["timestamp_s"]) * 25)
        assert (bright * np.arange(48)).sum() / bright.sum() == pytest.approx(0.5 + 4 * number, abs=0.7) or number < 2
    assert report["notes"][0]["notes"] == ["interlaced: fields become one picture per frame"]


def test_a_film_that_becomes_interlaced_is_said_and_shows_the_same_whichever_frames_are_kept(tmp_path):
    (tmp_path / "raw").mkdir()
    for number, (frames, coding) in enumerate([(gray_film(LEVELS[:12], (64, 48)), "tff=0"), (woven(0), "tff=1")]):
        quality = ("-crf", 1, "-pix_fmt", "yuv420p", "-x264-params", coding if number else "bframes=0")
        ffmpeg("-c:v", "libx264", *quality, tmp_path / f"{number}.ts", frames=frames)
    joined = b"".join((tmp_path / f"{number}.ts").read_bytes() for number in range(2))
    (tmp_path / "raw" / "a.ts").write_bytes(joined)
    assert not probe_video(tmp_path / "raw" / "a.ts").picture.interlaced
    every, _ = extract(tmp_path, SourceFolder(tmp_path / "raw", "video"), size=48)
    some, report = extract(tmp_path, SourceFolder(tmp_path / "raw", "video", fps=12.5), size=48)
    assert report["notes"][0]["notes"] == ["interlaced in part: fields become one picture per frame"]
    images = {row["timestamp_s"]: row["image"] for row in every}
    assert len(every) == 20 and 9 < len(some) < 12
    for row in some[:-1]:  # the filter sees no successor of the last kept frame
        np.testing.assert_array_equal(row["image"], images[row["timestamp_s"]])


@pytest.mark.parametrize(
    ("matrix", "corner", "words"),
    [
        ((0, 1, -1, 0), (0, -1), "turned by 90 degrees"),
        ((-1, 0, 0, -1), (-1, -1), "turned by 180 degrees"),
        ((-1, 0, 0, 1), (0, -1), "mirrored"),
        ((1, 0, 0, -1), (-1, 0), "mirrored"),
        ((0, 1, 1, 0), (0, 0), "turned by 90 degrees and mirrored"),
        ((0, -1, -1, 0), (-1, -1), "turned by 90 degrees and mirrored"),
    ],
)
def test_display_matrices_that_turn_and_mirror(tmp_path, matrix, corner, words):
    """The top left corner as stored appears where the matrix moves it (ISO/IEC 14496-12, 6.2.2)."""
    picture = np.full((48, 64, 3), 20, np.uint8)
    picture[:24, :32] = 220
    film = tmp_path / "raw" / "a.mp4"
    write_film(film, np.stack([picture] * 2))
    data, unit = film.read_bytes(), struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    start = data.index(unit, data.index(b"tkhd"))
    a, b, c, d = (value << 16 for value in matrix)
    film.write_bytes(data[:start] + struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30) + data[start + 36 :])
    rows, report = extract(tmp_path, SourceFolder(tmp_path / "raw", "video"))
    corners = {place: rows[0]["image"][place].mean() > 120 for place in ((0, 0), (0, -1), (-1, 0), (-1, -1))}
    assert [place for place, bright in corners.items() if bright] == [corner]
    assert report["notes"][0]["notes"] == [f"{words} by its display matrix"]


@pytest.mark.parametrize("matrix", ["bt601", "bt709", "bt2020"])
@pytest.mark.parametrize("full", [False, True])
def test_matrices_and_ranges_of_colour(tmp_path, matrix, full):
    colors = np.array([[200, 40, 60], [40, 180, 80]], np.uint8)
    frames = np.broadcast_to(colors[:, None, None], (2, SIZE, SIZE, 3)).copy()
    space = {"bt601": "smpte170m", "bt709": "bt709", "bt2020": "bt2020nc"}[matrix]
    convert = f"scale=out_color_matrix={matrix}:out_range={'pc' if full else 'tv'},setparams=colorspace={space}"
    (tmp_path / "raw").mkdir()
    ffmpeg("-vf", convert, "-c:v", "libx264", "-crf", 1, "-pix_fmt", f"yuv{'j' * full}420p", tmp_path / "raw" / "a.mp4",
           frames=frames)  # fmt: skip
    rows, _ = extract(tmp_path, SourceFolder(tmp_path / "raw", "video"))
    np.testing.assert_allclose([row["image"].mean((0, 1)) for row in rows], colors, atol=4)


# --- files


def test_films_of_camcorders_and_in_capitals_are_found(tmp_path):
    names = ["a.MTS", "b.m2ts", "c.3gp", "d.WMV", "e.ts", "f.VOB", "g.mpg"]
    for name in [*names, "notes.txt", "h.thm"]:
        (tmp_path / name).write_bytes(b"")
    assert [path.name for path in list_videos(tmp_path)] == names
    assert all(suffix == suffix.lower() and suffix.startswith(".") for suffix in VIDEO_SUFFIXES)


def test_a_camcorder_beside_a_phone(tmp_path):
    frames = gray_film(LEVELS[:6])
    write_film(tmp_path / "raw" / "jump" / "phone.mp4", frames, [index / 25 for index in range(6)])
    ffmpeg("-c:v", "libx264", "-crf", 1, "-f", "mpegts", tmp_path / "raw" / "jump" / "camcorder.MTS", frames=frames)
    rows, report = extract(tmp_path, SourceFolder(tmp_path / "raw", "video"))
    assert {row["camera"] for row in rows} == {"phone", "camcorder"} and not report["missing_frames"]
    for row in rows:  # both begin at 0, although a transport stream's clock does not
        assert shown([row]) == [row["frame_index"]] == [round(row["timestamp_s"] * 25)]


def test_small_copies_count_only_where_there_is_nothing_else(tmp_path):
    for name in ("GX01.LRV", "GX01.MP4"):
        (tmp_path / name).write_bytes(b"")
    assert [path.name for path in list_videos(tmp_path)] == ["GX01.MP4"]
    (tmp_path / "GX01.MP4").unlink()
    assert [path.name for path in list_videos(tmp_path)] == ["GX01.LRV"]
    for name in ("a.mts", "a.mp4"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(InputError, match=r"a\.mts: expected a stem of its own"):
        list_videos(tmp_path)


def test_an_error_of_our_own_is_no_word_about_the_film(tmp_path, monkeypatch):
    write_film(tmp_path / "a.mp4", gray_film([50, 60]))
    monkeypatch.setattr("fourdistill.video.probe.list_frames", lambda *_: int("a mistake"))
    with pytest.raises(ValueError, match="a mistake"):
        probe_video(tmp_path / "a.mp4")


def test_tags_in_other_encodings_are_no_damage(tmp_path):
    write_film(tmp_path / "a.mkv", gray_film([50, 60]))
    ffmpeg("-i", tmp_path / "a.mkv", "-c", "copy", "-metadata", "title=caf__", tmp_path / "b.mkv")
    data = (tmp_path / "b.mkv").read_bytes()
    (tmp_path / "b.mkv").write_bytes(data.replace(b"caf__", b"caf\xe9_"))
    assert len(probe_video(tmp_path / "b.mkv").timestamps_s) == 2


def test_a_program_in_typescript_is_a_bad_film(tmp_path):
    write_film(tmp_path / "raw" / "a.mp4", gray_film([50, 60]))
    (tmp_path / "raw" / "index.ts").write_text("export const answer: number = 42;\n" * 400)
    rows, report = extract(tmp_path, SourceFolder(tmp_path / "raw", "video"), max_bad_fraction=0.5)
    assert {row["scene"] for row in rows} == {"a"}
    assert [bad["scene"] for bad in report["bad"]] == ["index"]
