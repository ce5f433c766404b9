"""Measurements of speed and robustness. They pass or fail nothing in CI: the results depend on the machine.

`make bench`, or `python -m benchmarks PART...` for some parts, writes report.json and report.md:

  serving     this service, its peers and the network alone: latency, throughput, start and memory
  cine        a long cine: time to the first mask, and time per frame after it
  codecs      libraries that read and write image files
  scaling     cost against the size of the network input, the frame, the cine, the clients and the training set
  roofline    the served network against the machine's peak
  training    a training step with real data, with constant data and in float32

Long measurements have their own commands and reports: upload_fuzz, coverage_fuzz, framing_fuzz, soak, memory_limits,
fairness, hostile_clients, pipeline_kills, service_kills, archive, capacity, larger_than_memory, gpu, batching.

Each of these modules has a `TITLE`, `measure()`, which returns JSON-compatible figures, and `to_markdown(figures)`.
`python -m benchmarks.report` renders all reports again from the stored figures.
"""
