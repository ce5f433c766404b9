"""What is measured: `make bench`, or `python -m benchmarks PART...` for some of it.

  uploads     the files that are sent, made of test frames
  contenders  who is asked: this service, and the obvious ways to serve the same network
  load        the client, in a process of its own: closed and open loop, every answer checked
  serving     times, throughput, start-up and memory, side by side
  cine        a long cine: its first mask, and the rest
  codecs      which library reads and writes the files fastest
  growth      how cost grows with input, frame, cine, clients and training frames
  limit       the network beside the machine's own peak
  report      report.json and report.md

A part is a module with `measure()`, which gives back figures that fit into JSON, and `tell(figures)`, which makes
Markdown of them. Nothing here passes or fails: the machine decides, and the report says which one it was.
"""
