"""Store a DICOM Segmentation for each ultrasound instance in an Orthanc server, once per instance and model run.

Orthanc numbers its changes, and the bridge reads them from a position that it keeps in a file. When the study of a new
instance is stable, the service segments each ultrasound instance of it, and the bridge stores the segmentations in the
same study. That is a change too, and the study becomes stable once more, but an existing segmentation is not made
again. So it does no harm if a position is read twice, or lost.
"""

import logging
import os
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

from service.clients.bridge_http_client import BridgeHttpClient, RejectedError, StopBridgeError
from service.clients.orthanc_forms import (
    CHANGES,
    INSTANCE,
    INSTANCE_METADATA,
    INSTANCES,
    LAST_CHANGE,
    SERIES_LIST,
    STORED_INSTANCE,
    STUDIES,
    Changes,
    Instance,
    InstanceMetadata,
    Series,
    StoredInstance,
    Study,
)
from service.clients.response_forms import MODEL_DESCRIPTION
from service.clients.retries import DELETED_STATUSES, MAX_SERVER_FAILURES, UNUSABLE_STATUSES
from service.request_state import AnswerSettings

log = logging.getLogger("nervemask.bridge")

POLL_SECONDS = 2.0
CHANGES_PER_REQUEST = 1000


class OrthancBridge:
    """Segments the ultrasound instances of an Orthanc server with the service."""

    def __init__(self, orthanc: BridgeHttpClient, service: BridgeHttpClient):
        self.orthanc = orthanc
        self.service = service

    def run(self, state_file: Path, once: bool) -> None:
        """Segment studies as they become stable.

        state_file: holds the position.
        once: return after the last change; else run without end.

        Raises StopBridgeError and OSError.
        """
        log.info("the service's model run: %s", self.model_run_id())
        position = saved_position = read_position(state_file)
        write_position(state_file, saved_position)  # fails now rather than later if the file cannot be written
        unstable: dict[str, int] = {}  # unstable studies, each with a position before its new instances
        while True:
            last = self.orthanc.request("GET", "/changes?last", LAST_CHANGE).Last
            if last < position:
                log.warning("Orthanc has %d changes, fewer than before (%d): all are read again", last, position)
                position, unstable = 0, {}
            changes: Changes = self.orthanc.request(
                "GET", f"/changes?since={position}&limit={CHANGES_PER_REQUEST}", CHANGES
            )
            # Not StableStudy: Orthanc forgets its unstable studies at a restart, and does not report them as stable.
            new_instances = [change.ID for change in changes.Changes if change.ChangeType == "NewInstance"]
            studies = self._studies_of([*unstable, *new_instances])
            for study in studies:
                if study.IsStable:
                    self.segment_study(study.ID)
            unstable = {study.ID: unstable.get(study.ID, position) for study in studies if not study.IsStable}
            has_more = changes.Last > position and not changes.Done
            position = changes.Last
            if saved_position != (done_position := min([position, *unstable.values()])):
                saved_position = done_position
                write_position(state_file, saved_position)
            if once and not has_more:
                return
            self.orthanc.pause(0 if has_more else POLL_SECONDS)

    def segment_study(self, study_id: str) -> None:
        """Segment each ultrasound instance of a study that has no segmentation by this model run.

        Raises StopBridgeError.
        """
        path = f"/studies/{study_id}"
        try:
            instances: list[Instance] = self.orthanc.request(
                "GET", f"{path}/instances", INSTANCES, final_statuses=DELETED_STATUSES
            )
            series: list[Series] = self.orthanc.request(
                "GET", f"{path}/series", SERIES_LIST, final_statuses=DELETED_STATUSES
            )
        except RejectedError:
            log.info("study %s: deleted", study_id)
            return
        log.info("study %s: %d instance(s) in %d series", study_id, len(instances), len(series))
        modalities = {one_series.ID: one_series.MainDicomTags.Modality for one_series in series}
        # UIDs of this study, not of all studies: a study that is sent again for another patient keeps its UIDs.
        study_uids = {instance.MainDicomTags.SOPInstanceUID for instance in instances}
        for instance in instances:
            self.orthanc.pause(0)
            modality = modalities.get(instance.ParentSeries, "unknown")
            if modality not in ("US", "", "SEG"):
                log.info("instance %s: skipped (modality %s)", instance.ID, modality)
            elif modality != "SEG":
                try:
                    log.info("instance %s: %s", instance.ID, self._segment_instance(instance, modality, study_uids))
                except RejectedError as error:
                    log.warning("instance %s: skipped (%s)", instance.ID, error)

    def model_run_id(self) -> str:
        """Return the run ID of the service's model. Raises StopBridgeError."""
        return str(self.service.request("GET", "/model", MODEL_DESCRIPTION).run_id)

    def _segment_instance(self, instance: Instance, modality: str, study_uids: set[str]) -> str:
        """Segment an instance, store the segmentation in Orthanc, and return a description of the result.

        instance: as Orthanc lists it.
        modality: of its series; empty if unknown.
        study_uids: the SOP Instance UIDs in its study.

        The files pass through the disk, because cines are large.

        Raises RejectedError and StopBridgeError.
        """
        from service.clients.returned_segmentation_check import check_segmentation
        from service.decoding.dicom.header_checks import SECONDARY_CAPTURE_CLASSES, ULTRASOUND_CLASSES
        from service.inference.segmentation_result import MIN_CONFIDENCE
        from service.rendering.dicom_segmentation import derive_uid

        path = f"/instances/{instance.ID}"
        metadata: InstanceMetadata = self.orthanc.request(
            "GET", f"{path}/metadata?expand", INSTANCE_METADATA, final_statuses=DELETED_STATUSES
        )
        sop_class = metadata.SopClassUid
        if sop_class not in ULTRASOUND_CLASSES and not (sop_class in SECONDARY_CAPTURE_CLASSES and modality == "US"):
            return "skipped (not an ultrasound image)"
        settings = AnswerSettings(MIN_CONFIDENCE)
        if derive_uid(instance.MainDicomTags.SOPInstanceUID, self.model_run_id(), settings) in study_uids:
            return "skipped (already segmented)"
        with TemporaryFile() as source, TemporaryFile() as segmentation:
            self._request_segmentation(path, source, segmentation)
            if check_segmentation(segmentation, source) in study_uids:
                # Storing it again would be a change, and the bridge would process the study without end.
                return "skipped (already segmented with another UID)"
            # Check again: a segmentation would bring back a study that was deleted in the meantime.
            self.orthanc.request("GET", path, INSTANCE, final_statuses=DELETED_STATUSES)
            stored: StoredInstance = self.orthanc.request(
                "POST", "/instances", STORED_INSTANCE, body=segmentation, final_statuses=UNUSABLE_STATUSES
            )
        return f"segmented, {stored.ID} ({stored.Status})"

    def _request_segmentation(self, path: str, source: IO[bytes], segmentation: IO[bytes]) -> None:
        """Write the file of an instance to `source`, and its segmentation to `segmentation`.

        path: of the instance in Orthanc.

        Raises RejectedError and StopBridgeError.
        """
        from service.inference.segmentation_result import MIN_CONFIDENCE

        self.orthanc.request(
            "GET",
            f"{path}/file",
            into=source,
            final_statuses=DELETED_STATUSES,
            max_server_failures=MAX_SERVER_FAILURES,
        )
        self.service.request(
            "POST",
            f"/dicom?min_confidence={MIN_CONFIDENCE}",
            into=segmentation,
            body=source,
            final_statuses=UNUSABLE_STATUSES,
            max_server_failures=MAX_SERVER_FAILURES,
        )

    def _studies_of(self, resource_ids: list[str]) -> list[Study]:
        """Return the studies of these studies and instances, each once, as Orthanc describes them; not deleted ones."""
        if not resource_ids:
            return []
        body = {"Resources": resource_ids, "Level": "Study", "Metadata": False}
        studies: list[Study] = self.orthanc.request("POST", "/tools/bulk-content", STUDIES, body=body)
        return studies


def read_position(state_file: Path) -> int:
    """Return the number of the last change that is fully processed; 0 without a file. Raises StopBridgeError."""
    try:
        return int(state_file.read_text())
    except FileNotFoundError:
        return 0
    except (OSError, ValueError) as error:
        raise StopBridgeError(f"{state_file} holds no position ({error}): remove it to start from 0") from error


def write_position(state_file: Path, position: int) -> None:
    """Write the position atomically, and safe against a power failure. Raises OSError."""
    partial = state_file.with_name(state_file.name + ".new")
    with partial.open("w") as file:
        file.write(f"{position}\n")
        file.flush()
        os.fsync(file.fileno())
    partial.replace(state_file)
