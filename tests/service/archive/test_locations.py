"""What each kind of source lists."""

from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from service.archive.locations import SourceError, list_source, open_location, resolve_source
from tests import frames
from tests.object_store import running_object_store


def names(source: str | Path) -> list[str]:
    return [Path(location).name for location in list_source(str(source))]


def test_a_folder_lists_all_files_but_hidden_ones(source) -> None:
    assert sorted(names(source)) == ["IM0001", "a again.png", "a.png", "b.png", "damaged.png", "notes.txt"]
    assert names(source) == names(source)
    outside = map(Path, list_source(str(source), source / "nested"))
    assert sorted(path.name for path in outside) == ["a.png", "damaged.png", "notes.txt"]


def test_lists_name_files_beside_them_and_elsewhere(source) -> None:
    (source / "list.csv").write_text(f"id,path\n1,a.png\n2,{source / 'nested' / 'b.png'}\n3,s3://bucket/c #1.png\n4,\n")
    expected = [str(source / "a.png"), str(source / "nested" / "b.png"), "s3://bucket/c%20%231.png"]
    assert list(list_source(str(source / "list.csv"))) == expected
    parquet.write_table(pa.table({"path": ["a.png", None], "id": [1, 2]}), source / "list.parquet")
    assert list(list_source(str(source / "list.parquet"))) == [str(source / "a.png")]


def test_bad_sources_are_named(source) -> None:
    (source / "list.csv").write_text("file\na.png\n")
    (source / "list.parquet").write_text("no Parquet")
    with pytest.raises(SourceError, match=r"list\.csv has no column 'path'"):
        list(list_source(str(source / "list.csv")))
    with pytest.raises(SourceError, match=r"list\.parquet is not a Parquet file"):
        list(list_source(str(source / "list.parquet")))
    with pytest.raises(SourceError, match="missing does not exist"):
        resolve_source(str(source / "missing"))
    with pytest.raises(SourceError, match="DICOMWEB_USER"):
        resolve_source("https://user:secret@pacs/dicom-web")
    for url, reason in {
        "https://pacs:port/dicom-web": "is not a URL",
        "https://pacs/dicom-web?limit=5": "holds limit or offset",
        "s3://key:secret@bucket/x": "holds a user",
        "s3://bucket/x?region=eu": "AWS_REGION",
    }.items():
        with pytest.raises(SourceError, match=reason):
            resolve_source(url)
    (source / "list.csv").write_text("path\nhttps://other/studies/1/series/1/instances/1\n")
    with pytest.raises(SourceError, match="give DICOMweb servers as a SOURCE"):
        list(list_source(str(source / "list.csv")))
    (source / "list.csv").write_bytes("path\nM\xfcller.png\n".encode("latin-1"))
    with pytest.raises(SourceError, match="not a CSV file in UTF-8"):
        list(list_source(str(source / "list.csv")))


@pytest.mark.server
def test_an_object_store_lists_its_objects_folder_by_folder(tmp_path, monkeypatch) -> None:
    with running_object_store(tmp_path, ("archive",)) as store:
        for name, value in store.environment.items():
            monkeypatch.setenv(name, value)
        data = frames.png(frames.speckle(1, 60, 80))
        for key in ("study/b.png", "study/Doe^Jane/a #1 ä?.png", "other/c.png"):
            store.client.put_object(Bucket="archive", Key=key, Body=data)
        listed = list(list_source("s3://archive/study"))
        assert listed == [
            "s3://archive/study/b.png",
            "s3://archive/study/Doe%5EJane/a%20%231%20%C3%A4%3F.png",
        ]
        with open_location(listed[1]) as file:
            assert file.read() == data
        assert list(list_source("s3://archive/other/c.png")) == ["s3://archive/other/c.png"]
        assert list(list_source(resolve_source("s3://archive/study/Doe^Jane"))) == listed[1:]
        assert list(list_source(resolve_source("s3://archive/study/Doe%5EJane"))) == listed[1:]
        with pytest.raises(SourceError, match="s3://archive/missing"):
            list(list_source("s3://archive/missing"))
        with pytest.raises(OSError):
            open_location("s3://archive/missing.png")
