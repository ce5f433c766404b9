"""The DICOMweb client against a real Orthanc: find instances and retrieve them as they are stored."""

import hashlib

import httpx
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import CTImageStorage, RLELossless, generate_uid

from service.clients import dicomweb
from service.clients.dicomweb import DicomWebClient, DicomWebError, split_query
from tests.dicoms import make_ultrasound, to_bytes
from tests.service.clients.hostile_server import hostile_server, http
from tests.service.clients.orthanc_server import DICOMWEB_PLUGIN, PASSWORD, USER, Orthanc, make_frame


@pytest.fixture
def base_url(orthanc: Orthanc, monkeypatch: pytest.MonkeyPatch) -> httpx.URL:
    if not DICOMWEB_PLUGIN.exists():
        pytest.skip("Orthanc's plugin is not installed (Debian's package orthanc-dicomweb)")
    monkeypatch.setenv("DICOMWEB_USER", USER)
    monkeypatch.setenv("DICOMWEB_PASSWORD", PASSWORD)
    return httpx.URL(f"{orthanc.address_without_user}/dicom-web")


def store(orthanc: Orthanc, *files: bytes) -> None:
    for file in files:
        orthanc.client.post("/instances", content=file).raise_for_status()


@pytest.mark.server
def test_instances_are_found_page_by_page(orthanc, base_url, monkeypatch) -> None:
    monkeypatch.setattr(dicomweb, "PAGE_SIZE", 2)
    frames = [make_frame(SOPInstanceUID=generate_uid(), StudyDate=date) for date in ["20260101"] * 5 + ["20250101"]]
    store(orthanc, *map(to_bytes, frames), to_bytes(make_frame(SOPClassUID=CTImageStorage, Modality="CT")))
    with DicomWebClient(base_url) as client:
        every = list(client.search_instances(httpx.QueryParams()))
        of_2026 = list(client.search_instances(httpx.QueryParams(StudyDate="20260101-20261231")))
        assert list(client.search_instances(httpx.QueryParams(PatientID="nobody"))) == []
    assert {url.rpartition("/")[2] for url in every} == {frame.SOPInstanceUID for frame in frames}
    assert {url.rpartition("/")[2] for url in of_2026} == {frame.SOPInstanceUID for frame in frames[:5]}


@pytest.mark.server
@pytest.mark.parametrize("syntax", [None, RLELossless])
def test_an_instance_is_retrieved_as_it_is_stored(orthanc, base_url, syntax, tmp_path) -> None:
    cine = make_ultrasound(np.random.default_rng(0).integers(0, 256, (3, 40, 48), np.uint8))
    if syntax:
        cine.compress(syntax)
    data = to_bytes(cine)
    store(orthanc, data)
    with DicomWebClient(base_url) as client:
        (url,) = client.search_instances(httpx.QueryParams())
        with client.retrieve_instance(url) as file:
            retrieved = file.read()
    assert hashlib.sha256(retrieved).hexdigest() == hashlib.sha256(data).hexdigest()


@pytest.mark.server
def test_errors_name_the_server_and_no_password(orthanc, base_url, monkeypatch) -> None:
    with DicomWebClient(base_url) as client, pytest.raises(DicomWebError, match="404"):
        client.retrieve_instance(f"{base_url}/studies/1.2/series/1.3/instances/1.4")
    monkeypatch.setenv("DICOMWEB_PASSWORD", "wr0ng")
    with DicomWebClient(base_url) as client, pytest.raises(DicomWebError, match="401") as refused:
        list(client.search_instances(httpx.QueryParams()))
    assert "wr0ng" not in str(refused.value)
    other = httpx.URL(f"{orthanc.address_without_user}/system")
    monkeypatch.setenv("DICOMWEB_PASSWORD", PASSWORD)
    with DicomWebClient(other) as client, pytest.raises(DicomWebError, match="404"):
        list(client.search_instances(httpx.QueryParams()))


def test_a_query_is_split_into_server_and_filters() -> None:
    for path in ("", "/", "/studies", "/series", "/instances"):
        base, filters = split_query(httpx.URL(f"https://pacs:8042/dicom-web{path}?PatientSex=F"))
        assert (str(base), dict(filters)) == ("https://pacs:8042/dicom-web", {"PatientSex": "F"})
    base, filters = split_query(httpx.URL("https://pacs/dicom-web/studies/1.2/series/3.4/instances/5.6"))
    assert str(base) == "https://pacs/dicom-web"
    base, filters = split_query(httpx.URL("https://pacs/dicom-web/studies/1.2/instances?Modality=US"))
    assert str(base) == "https://pacs/dicom-web"
    assert dict(filters) == {"Modality": "US", "StudyInstanceUID": "1.2"}


@pytest.mark.server
def test_an_archive_is_read_from_a_server(orthanc, base_url) -> None:
    from service.archive.locations import list_source, open_location

    store(orthanc, to_bytes(make_frame()))
    (location,) = list_source(f"{base_url}/instances?PatientID=4711")
    with open_location(location) as file:
        assert dcmread(file).PatientID == "4711"


PART = b"Content-Type: application/dicom\r\n\r\n"


@pytest.mark.parametrize(
    "body",
    [
        b"--x y\r\n" + PART + b"data\r\n--x y--",
        b"\r\n--x y  \r\n" + PART + b"data\r\n--x y--\r\n",
        b"a preamble\r\n--x y\r\n" + PART + b"data\r\n--x y--epilogue",
        b"--x y\r\n\r\ndata\r\n--x y--",
    ],
)
def test_the_part_of_a_multipart_body_is_read(body: bytes) -> None:
    assert retrieve(body, 'multipart/related; type="application/dicom"; boundary="x y"') == b"data"


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"--z\r\n\r\ndata\r\n--z--", "multipart/related; boundary=x"),
        (b"--x\r\n\r\ndata", "multipart/related; boundary=x"),
        (
            b"--x\r\n" + 200 * b"header: value of a header which is rather long\r\n" + b"\r\n\r\n--x--",
            "multipart/related; boundary=x",
        ),
        (b"<html>log in</html>", "text/html"),
    ],
)
def test_other_bodies_are_errors(body: bytes, content_type: str) -> None:
    with pytest.raises(DicomWebError, match="pacs"):
        retrieve(body, content_type)


def retrieve(body: bytes, content_type: str) -> bytes:
    with (
        hostile_server({"GET ": http(body, content_type)}) as server,
        DicomWebClient(httpx.URL(f"{server.address}/pacs")) as client,
        client.retrieve_instance(f"{server.address}/pacs/studies/1/series/1/instances/1") as file,
    ):
        return file.read()
