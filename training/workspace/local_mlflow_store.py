"""Keep the local MLflow store usable after its project is copied or moved.

MLflow stores the absolute folder of each artifact. `python -m training.workspace.local_mlflow_store` corrects these
folders; every stage that logs to MLflow does so too.
"""

import sqlite3
from contextlib import closing
from pathlib import Path

from training.workspace import paths

ARTIFACTS = "mlartifacts"
# The columns of MLflow's tables that hold a folder of artifacts.
FOLDER_COLUMNS = {
    "experiments": "artifact_location",
    "runs": "artifact_uri",
    "logged_models": "artifact_location",
    "model_versions": "storage_location",
}


def database() -> Path:
    """Return the file of the local store."""
    return paths.project_root() / "mlflow.db"


def artifacts_uri() -> str:
    """Return the URI of the folder of artifacts."""
    return (paths.project_root() / ARTIFACTS).as_uri()


def follow_project() -> None:
    """Let the artifacts of the local store be those of this project, not of the folder it was copied from."""
    if not database().exists():
        return
    with closing(sqlite3.connect(database())) as connection, connection:
        query = "SELECT DISTINCT artifact_location FROM experiments WHERE artifact_location LIKE ?"
        for (old,) in connection.execute(query, (f"%/{ARTIFACTS}",)).fetchall():
            for table, column in FOLDER_COLUMNS.items() if old != artifacts_uri() else ():
                connection.execute(
                    f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE substr({column}, 1, ?) = ?",
                    (artifacts_uri(), len(old) + 1, len(old), old),
                )


if __name__ == "__main__":
    follow_project()
