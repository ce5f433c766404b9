"""`python -m service.client` against the real server, and against one that refuses, cuts off or is not there."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import httpx
import numpy as np
import pytest
from pydicom import dcmread, uid
from pydicom.encaps import encapsulate, generate_frames

from service.client.__main__ import TRIES, main
from tests.dicoms import region, ultrasound, written

ROOT = Path(__file__).parent.parent
FRAMES = 30


class Said(NamedTuple):
    """What a call of the client printed."""

    stdout: str
    stderr: str


@pytest.fixture
def ask(address, tmp_path, monkeypatch, capsys) -> Callable[..., Said]:
    """ask(*arguments, server, status): the client, called in a folder of its own, ends with this status."""
    monkeypatch.chdir(tmp_path)

    def ask(*arguments: str, server: str = address, status: int = 0) -> Said:
        monkeypatch.setenv("NERVEMASK_SERVER", server)
        monkeypatch.setattr(sys, "argv", ["client", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        said = Said(*capsys.readouterr())
        assert ended.value.code == status, said.stderr
        return said

    return ask


def started(folder: Path, server: str, *arguments: str, **options: Any) -> subprocess.Popen[bytes]:
    """The client as a process of its own. options: of Popen."""
    call = [sys.executable, *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NERVEMASK_SERVER": server, "TERM": "xterm-256color"}
    return subprocess.Popen(call, cwd=folder, env=environment, **options)


@pytest.fixture(scope="module")
def data(speckle) -> dict[str, bytes]:
    """One frame as a file of each type; the DICOM's pixels are 0.1 x 0.2 mm."""
    pixels = speckle(3, 120, 160)
    files = {suffix: cv2.imencode(suffix, pixels)[1].tobytes() for suffix in (".png", ".jpg", ".tif")}
    regions = [region(0, 0, 159, 119)]
    return files | {".dcm": written(ultrasound(pixels, SequenceOfUltrasoundRegions=regions))}


@pytest.fixture(scope="module")
def cine(speckle) -> bytes:
    return written(ultrasound(np.stack([speckle(seed, 120, 160) for seed in range(FRAMES)])))


def files(folder: str) -> set[str]:
    """All files below a folder, what is hidden or half written too."""
    return {str(path.relative_to(folder)) for path in Path(folder).rglob("*") if path.is_file()}


def write(path: str, data: bytes) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_bytes(data)


def served(client: httpx.Client, route: str, data: bytes, **headers: str) -> httpx.Response:
    answer = client.post(route, content=data, headers={"content-type": "application/octet-stream", **headers})
    assert answer.status_code == 200, answer.text
    return answer


# What is asked for


@pytest.mark.parametrize(
    ("arguments", "route"),
    [
        (["--out", "new/o.png"], "/mask"),
        (["--out", "o.PNG"], "/mask"),
        (["--out", "o.png", "--as", "overlay"], "/overlay"),
    ],
    ids=str,
)
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".dcm"])
def test_one_frame_to_a_picture(ask, client, data, suffix, arguments, route) -> None:
    write(f"frame{suffix}", data[suffix])
    ask(f"frame{suffix}", *arguments)
    assert files(".") == {f"frame{suffix}", arguments[1]}
    assert Path(arguments[1]).read_bytes() == served(client, route, data[suffix]).content


def test_one_frame_to_json(ask, client, data) -> None:
    write("frame.png", data[".png"])
    ask("frame.png", "--out", "o.json")
    told, expected = json.loads(Path("o.json").read_text()), served(client, "/segment", data[".png"]).json()
    assert told.pop("milliseconds") and expected.pop("milliseconds")
    assert told == expected


def test_one_frame_to_geojson(ask, client, data) -> None:
    write("frame.png", data[".png"])
    ask("frame.png", "--out", "o.geojson")
    expected = served(client, "/segment", data[".png"], accept="application/geo+json").json()
    assert json.loads(Path("o.geojson").read_text()) == expected


def test_a_cine_to_a_segmentation_object(ask, client, cine) -> None:
    write("cine.dcm", cine)
    done = ask("cine.dcm", "--out", "seg.dcm")
    masks = dcmread("seg.dcm").pixel_array
    assert masks.shape == (FRAMES, 120, 160)
    areas = [json.loads(line)["nerve"]["area_px"] for line in served(client, "/segment", cine).text.splitlines()]
    assert [np.count_nonzero(mask) for mask in masks] == areas
    assert "simulated" in done.stderr


def test_a_cine_to_pictures_is_one_request(ask, proxy, client, cine) -> None:
    write("cine.dcm", cine)
    done = ask("cine.dcm", "--out", "masks/a.png", server=proxy.address)
    assert files("masks") == {f"a_{index:04d}.png" for index in range(FRAMES)}
    for index in range(FRAMES):
        expected = served(client, f"/mask?index={index}", cine).content
        assert Path(f"masks/a_{index:04d}.png").read_bytes() == expected
    assert [line.split("\t")[0] for line in done.stdout.splitlines()] == [f"cine.dcm[{n}]" for n in range(FRAMES)]
    assert len(proxy.posts) == 1


@pytest.mark.parametrize(
    ("out", "lines"),
    [
        ("o.json", "o.jsonl"),
        ("o.jsonl", "o.jsonl"),
        ("o.geojson", "o.geojsonl"),
        ("o.geojsonl", "o.geojsonl"),
    ],
)
def test_a_cine_to_lines(ask, cine, out, lines) -> None:
    write("cine.dcm", cine)
    done = ask("cine.dcm", "--out", out)
    assert files(".") == {"cine.dcm", lines}
    assert (f"go to {lines}" in done.stderr) == (out != lines)  # another name than was asked for is told
    told = [json.loads(line) for line in Path(lines).read_text().splitlines()]
    where = "properties" if "geo" in out else "frame"
    assert [line[where]["index"] for line in told] == list(range(FRAMES))


# What is told


def test_a_line_a_frame(ask, client, data) -> None:
    black = cv2.imencode(".png", np.zeros((64, 64), np.uint8))[1].tobytes()
    for name, content in {"a.png": data[".png"], "b.dcm": data[".dcm"], "c.png": black}.items():
        write(f"in/{name}", content)
    done = ask("in", "--out", "out")
    lines = dict(line.split("\t", 1) for line in done.stdout.splitlines())
    told = served(client, "/segment", data[".png"]).json()
    nerve, measured = told["nerve"], served(client, "/segment", data[".dcm"]).json()["nerve"]
    assert lines["in/a.png"].startswith(f"nerve\tconfidence {told['confidence']['mask']:.2f}\t{nerve['area_px']} px\t")
    assert f"\t{measured['area_mm2']} mm2\t" in lines["in/b.dcm"]
    assert lines["in/c.png"].startswith("no nerve\tpresence 0.")
    assert all(line.endswith(" ms") for line in lines.values())
    assert done.stderr.count("simulated") == 1
    assert done.stderr.count("\n") == 1  # no progress bar where nobody looks on


def test_what_is_odd_about_a_frame_is_told_with_its_name(ask, data, speckle) -> None:
    regions = [region(0, 0, 79, 119), region(80, 0, 159, 119)]
    write("in/plain.png", data[".png"])
    write("in/two.dcm", written(ultrasound(speckle(3, 120, 160), SequenceOfUltrasoundRegions=regions)))
    told = ask("in", "--out", "out").stderr.splitlines()
    assert sorted(line.partition(": ")[0] for line in told) == ["in/two.dcm", "nervemask"]
    assert any("2 scan areas" in line for line in told)


def test_a_progress_bar_on_a_terminal_alone(address, data, tmp_path) -> None:
    (tmp_path / "frame.png").write_bytes(data[".png"])
    terminal, its_end = os.openpty()
    call = ["-m", "service.client", "frame.png", "--out", "o.png"]
    running = started(tmp_path, address, *call, stdout=subprocess.PIPE, stderr=its_end)
    said, _ = running.communicate(timeout=60)
    os.close(its_end)
    shown = os.read(terminal, 100_000).decode()
    os.close(terminal)
    assert running.returncode == 0
    assert "━" in shown
    assert said.startswith(b"frame.png\tnerve\t")


# Where it goes


def test_a_folder(ask, data) -> None:
    for name in ("a.png", "b/a.PNG", "b/c.jpg", "b/d/e.tif", "f.dcm"):
        write(f"in/{name}", data[Path(name).suffix.lower()])
    write("in/1.2.840.1", data[".dcm"])
    write("in/1.2.841.1", data[".dcm"])
    write("in/notes.txt", b"no frame")
    write("in/.hidden.png", b"no frame")
    ask("in", "--out", "out")
    expected = {"a.png", "b/a.png", "b/c.png", "b/d/e.png", "f.png", "1.2.840.1.png", "1.2.841.1.png"}
    assert files("out") == expected


@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [
        (["a/x.png", "b/x.png"], ["a/x.png", "b/x.png"]),
        (["a", "b"], ["a/x.png", "b/x.png"]),
        (["a/x.png", "a"], ["x.png"]),
        (["c"], ["x.png.png", "x.tif.png", "y.png"]),
        (["a/x.png"], ["x.png"]),
    ],
    ids=str,
)
def test_names_do_not_collide(ask, data, inputs, outputs) -> None:
    for name in ("a/x.png", "b/x.png", "c/x.png", "c/x.tif", "c/y.tif"):
        write(name, data[Path(name).suffix])
    ask(*inputs, "--out", "out")
    assert files("out") == set(outputs)


@pytest.mark.parametrize("overwrite", [[], ["--overwrite"]], ids=str)
def test_a_cines_pictures_do_not_take_the_place_of_another(ask, client, data, cine, overwrite) -> None:
    write("in/x.dcm", cine)
    write("in/x_0002.png", data[".png"])
    done = ask("in", "--out", "out", *overwrite, status=1)
    assert "in/x.dcm: out/x_0002.png is" in done.stderr
    assert Path("out/x_0002.png").read_bytes() == served(client, "/mask", data[".png"]).content


def test_a_folder_within_the_frames_is_not_taken_for_frames(ask, data) -> None:
    write("in/x.tif", data[".tif"])
    ask("in", "--out", "in/masks")
    ask("in", "--out", "in/masks", "--overwrite")
    assert files("in") == {"x.tif", "masks/x.png"}


@pytest.mark.parametrize(
    ("there", "arguments"),
    [
        ("o.png", ["frame.png", "--out", "o.png"]),
        ("out/cine_0000.png", ["frame.png", "cine.dcm", "--out", "out"]),
        ("out/cine.jsonl", ["frame.png", "cine.dcm", "--out", "out", "--as", "json"]),
    ],
    ids=str,
)
def test_nothing_is_overwritten_unless_told_to(ask, data, cine, there, arguments) -> None:
    write("frame.png", data[".png"])
    write("cine.dcm", cine)
    write(there, b"mine")
    before = files(".")
    done = ask(*arguments, status=2)
    assert there in done.stderr and "--overwrite" in done.stderr
    assert files(".") == before
    assert Path(there).read_bytes() == b"mine"
    ask(*arguments, "--overwrite")
    assert Path(there).read_bytes() != b"mine"


@pytest.mark.parametrize("arguments", [["frame.png", "--out", "frame.png"], ["frame.png", "--out", "."]], ids=str)
def test_a_frame_is_never_overwritten(ask, data, arguments) -> None:
    write("frame.png", data[".png"])
    ask(*arguments, "--overwrite", status=2)
    assert Path("frame.png").read_bytes() == data[".png"]


# What goes wrong


def test_a_refused_file_among_good_ones(ask, data) -> None:
    for number in range(6):
        write(f"in/{number}.png", data[".png"])
    write("in/3.png", b"no picture")
    write("in/4.png", data[".png"][:500])
    done = ask("in", "--out", "out", status=1)
    assert files("out") == {"0.png", "1.png", "2.png", "5.png"}
    assert "in/3.png: The upload is none of the types" in done.stderr
    assert "in/4.png: The frame's file is damaged" in done.stderr


def test_a_damaged_frame_of_a_cine(ask, speckle) -> None:
    made = ultrasound(np.stack([speckle(seed, 120, 160) for seed in range(4)]))
    made.compress(uid.JPEGLSLossless, generate_instance_uid=False)
    coded = list(generate_frames(made.PixelData, number_of_frames=4))
    coded[2] = coded[2][:40] + bytes(len(coded[2]) - 40)
    made.PixelData = encapsulate(coded)
    write("cine.dcm", written(made))
    done = ask("cine.dcm", "--out", "o.png", status=1)
    assert "cine.dcm[2]: Frame 2 is damaged" in done.stderr
    assert files(".") == {"cine.dcm", "o_0000.png", "o_0001.png", "o_0003.png"}
    done = ask("cine.dcm", "--out", "seg.dcm", status=1)
    assert "Frame 2" in done.stderr
    assert not Path("seg.dcm").exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nowhere.png", "--out", "o.png"], "nowhere.png"),
        (["empty", "--out", "out"], "holds no PNG"),
        (["frame.png", "--out", "o.gif"], "o.gif hold? Its suffix says so: .png, "),
        (["frame.png", "--out", "o.dcm", "--as", "overlay"], "*.png"),
        (["frame.png", "frame.tif", "--out", "frame.tif"], "is a file"),
        (["frame.png", "frame.tif", "--out", "o.json"], "need a folder"),
        (["frame.png", "--out", "o.png", "--at-once", "0"], "--at-once"),
        (["frame.png", "--out", "o.png", "--as", "video"], "video"),
        (["frame.png"], "--out"),
    ],
    ids=str,
)
def test_wrong_use(ask, data, arguments, told) -> None:
    write("frame.png", data[".png"])
    write("frame.tif", data[".tif"])
    Path("empty").mkdir()
    assert told in ask(*arguments, status=2).stderr
    assert files(".") == {"frame.png", "frame.tif"}


@pytest.mark.parametrize("server", ["http://127.0.0.1:1", "127.0.0.1:3000", "http://["])
def test_a_service_that_is_not_there(ask, data, server) -> None:
    write("frame.png", data[".png"])
    done = ask("frame.png", "--out", "o.png", "--server", server, status=2)
    assert server in done.stderr and ("make serve" if "://" in server else "begins with http://") in done.stderr
    assert done.stderr.count("\n") == 1


def test_what_is_no_frame_in_a_folder_is_told_of(ask, data) -> None:
    write("in/frame.png", data[".png"])
    write("in/notes.webp", b"x")
    write("in/.hidden", b"x")
    done = ask("in", "--out", "out")
    assert done.stderr.count("passed over") == 1
    assert "in/notes.webp is passed over: no PNG, JPEG, TIFF or DICOM file by its name" in done.stderr


# A server between, which may have its own mind


class Proxy(ThreadingHTTPServer):
    """Passes requests on to the real server. replies: what it says to the first POSTs in its place."""

    daemon_threads = True

    def __init__(self, server: str):
        super().__init__(("127.0.0.1", 0), Passing)
        self.server = server
        self.address = f"http://127.0.0.1:{self.server_port}"
        self.posts: list[float] = []  # when each came
        self.replies: list[bytes] = []
        self.gone_after_greeting = False


class Passing(BaseHTTPRequestHandler):
    server: Proxy

    def do_GET(self) -> None:
        if self.server.gone_after_greeting:
            self.server.socket.shutdown(socket.SHUT_RDWR)  # closed alone it listens while it is polled
            self.server.socket.close()
        self.pass_on(httpx.get(self.server.server + self.path))

    def do_POST(self) -> None:
        self.server.posts.append(time.monotonic())
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.server.replies:
            self.wfile.write(self.server.replies.pop(0))
            return
        headers = {name: self.headers[name] for name in ("content-type", "accept")}
        self.pass_on(httpx.post(self.server.server + self.path, content=body, headers=headers, timeout=30))

    def pass_on(self, answer: httpx.Response) -> None:
        self.send_response(answer.status_code)
        self.send_header("content-type", answer.headers["content-type"])
        self.end_headers()
        self.wfile.write(answer.content)

    def log_message(self, *words: object) -> None:
        pass


@pytest.fixture
def proxy(address) -> Iterator[Proxy]:
    with Proxy(address) as proxy:
        threading.Thread(target=proxy.serve_forever, args=(0.02,), daemon=True).start()
        yield proxy
        proxy.shutdown()


def busy(status: str, seconds: int) -> bytes:
    body = b'{"error": {"code": "too_many", "message": "Too many requests at once."}}'
    head = f"HTTP/1.1 {status}\r\nretry-after: {seconds}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
    return head.encode() + body


@pytest.mark.parametrize("status", ["429 Too Many Requests", "503 Service Unavailable"])
def test_a_busy_service_is_asked_again_when_it_says(ask, proxy, data, status) -> None:
    write("frame.png", data[".png"])
    proxy.replies = [busy(status, 0), busy(status, 1)]
    ask("frame.png", "--out", "o.png", server=proxy.address)
    assert Path("o.png").exists()
    first, second, third = proxy.posts
    assert second - first < 0.9 <= third - second


def test_a_service_that_stays_busy_is_given_up(ask, proxy, data) -> None:
    write("frame.png", data[".png"])
    proxy.replies = [busy("429 Too Many Requests", 0)] * (TRIES + 1)
    done = ask("frame.png", "--out", "o.png", server=proxy.address, status=1)
    assert "frame.png: Too many requests at once." in done.stderr
    assert len(proxy.posts) == TRIES


@pytest.mark.parametrize("out", ["o.json", "o.dcm", "o.png"])
def test_an_answer_that_breaks_off_leaves_nothing(ask, proxy, data, out) -> None:
    write("frame.dcm", data[".dcm"])
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/jsonl\r\ncontent-length: 1000\r\n\r\n"
    proxy.replies = [head + b'{"frame": {"index": 0}, "error": {"message": "damaged"}}\n{"frame": {"ind']
    done = ask("frame.dcm", "--out", out, server=proxy.address, status=1)
    assert "frame.dcm: no whole answer came" in done.stderr
    assert files(".") == {"frame.dcm"}


def test_a_service_that_goes_away(ask, proxy, data) -> None:
    for number in range(20):
        write(f"in/{number}.png", data[".png"])
    proxy.gone_after_greeting = True
    done = ask("in", "--out", "out", server=proxy.address, status=2)
    assert "cannot be reached" in done.stderr
    assert done.stderr.count("\n") == 2  # before it, the model's warning


@pytest.mark.parametrize("status", [200, 404])
def test_another_server_is_not_taken_for_the_service(ask, data, status) -> None:
    class Other(Passing):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("content-type", "text/html")
            self.end_headers()

    write("frame.png", data[".png"])
    with ThreadingHTTPServer(("127.0.0.1", 0), Other) as other:
        threading.Thread(target=other.serve_forever, args=(0.02,), daemon=True).start()
        done = ask("frame.png", "--out", "o.png", server=f"http://127.0.0.1:{other.server_port}", status=2)
        other.shutdown()
    assert f"answers {status}" in done.stderr


def as_at_a_terminal() -> None:
    """In the background a shell has its children ignore Ctrl-C, and the tests may run there."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_told_to_stop_it_stops(proxy, data, tmp_path) -> None:
    (tmp_path / "frame.png").write_bytes(data[".png"])
    proxy.replies = [busy("429 Too Many Requests", 60)]
    call = ["-m", "service.client", "frame.png", "--out", "o.png"]
    running = started(tmp_path, proxy.address, *call, stderr=subprocess.PIPE, preexec_fn=as_at_a_terminal)
    while not proxy.posts:
        time.sleep(0.02)
    time.sleep(0.2)
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=30)
    assert running.returncode == 130
    assert b"Traceback" not in said


def test_the_files_are_written_though_nobody_reads_the_lines(address, data, tmp_path) -> None:
    """As with `| head -1`."""
    for number in range(3):
        write(str(tmp_path / f"in/{number}.png"), data[".png"])
    nobody, its_end = os.pipe()
    os.close(nobody)
    running = started(
        tmp_path, address, "-m", "service.client", "in", "--out", "out", stdout=its_end, stderr=subprocess.PIPE
    )
    os.close(its_end)
    _, said = running.communicate(timeout=60)
    assert (running.returncode, said.count(b"\n")) == (0, 1), said  # the model's warning
    assert files(str(tmp_path / "out")) == {"0.png", "1.png", "2.png"}


# What it costs


def test_help_loads_next_to_nothing() -> None:
    heavy = "{'httpx', 'rich', 'numpy', 'cv2', 'openvino', 'bentoml'}"
    code = f"import sys, service.client; print(*{heavy} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True) == "\n"


def test_the_whole_of_it_needs_no_arrays(address, data, tmp_path) -> None:
    (tmp_path / "frame.dcm").write_bytes(data[".dcm"])
    call = ["-X", "importtime", "-m", "service.client", "frame.dcm", "--out", "o.png"]
    running = started(tmp_path, address, *call, stderr=subprocess.PIPE)
    _, said = running.communicate(timeout=60)
    assert running.returncode == 0
    loaded = {line.rpartition("|")[2].strip() for line in said.decode().splitlines()}
    assert "httpx" in loaded
    assert not loaded & {"numpy", "cv2", "openvino", "bentoml", "pydicom"}
