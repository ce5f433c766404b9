"""What the bridge uses of Orthanc's JSON, as pydantic models. Other fields are ignored."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

# Orthanc's identifiers of resources. They become parts of paths, so nothing else is allowed in them.
OrthancId = Annotated[str, Field(pattern="^[0-9a-f]{8}(-[0-9a-f]{8}){4}$")]
Position = Annotated[int, Field(ge=0, lt=2**63)]


class _Form(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore", allow_inf_nan=False)


class LastChange(_Form):
    """The number of the last change."""

    Last: Position


class Change(_Form):
    """A change of one resource."""

    ID: str
    ChangeType: str


class Changes(LastChange):
    """Changes in their order. Last: the number of the last one here. Done: there are no more."""

    Changes: list[Change]
    Done: bool


class Study(_Form):
    """A study. IsStable: it got no new instance for a while."""

    ID: OrthancId
    IsStable: bool


class SeriesTags(_Form):
    """DICOM attributes of a series."""

    Modality: str = ""


class Series(_Form):
    """A series of a study."""

    ID: OrthancId
    MainDicomTags: SeriesTags


class InstanceTags(_Form):
    """DICOM attributes of an instance."""

    SOPInstanceUID: str


class Instance(_Form):
    """An instance of a series."""

    ID: OrthancId
    ParentSeries: OrthancId
    MainDicomTags: InstanceTags


class InstanceMetadata(_Form):
    """What Orthanc knows about an instance."""

    SopClassUid: str | None = None


class StoredInstance(_Form):
    """The result of storing an instance."""

    ID: OrthancId
    Status: str


LAST_CHANGE = TypeAdapter(LastChange)
CHANGES = TypeAdapter(Changes)
STUDIES = TypeAdapter(list[Study])
SERIES_LIST = TypeAdapter(list[Series])
INSTANCE = TypeAdapter(Instance)
INSTANCES = TypeAdapter(list[Instance])
INSTANCE_METADATA = TypeAdapter(InstanceMetadata)
STORED_INSTANCE = TypeAdapter(StoredInstance)
