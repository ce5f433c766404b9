"""Data sources: each module turns one data set's files into frame-mask pairs.

A source is a module with the function

    def pairs(path: Path | None, log: IngestLog) -> Iterator[FrameMaskPair]

path: the folder or zip file of `nerve.path`; None if it is empty.
log: takes a `SourceError` for each invalid pair (`log.report_error`, `log.attempt`) and the name of each file that does
    not belong to the data set (`log.leave_out`).
It yields one `FrameMaskPair` at a time. It raises SourceError for an error that concerns the whole data set, and
ParameterError if `nerve.path` is required but empty. `kaggle` is an example.

To register it, add the module's name to `Source` in training/workspace/nerve_parameters.py: `nerve.source` then
accepts it.

`phantom` simulates its frames and takes the parameters `nerve.phantom` instead. `mnist` belongs to the digits pipeline.
"""
