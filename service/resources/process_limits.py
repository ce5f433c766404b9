"""The open files and the core dumps of this process."""

# The kernel writes no core file of one byte. It also starts no program for core dumps at this limit, but at 0 it does.
NO_CORE_BYTES = 1


def raise_open_file_limit() -> None:
    """Allow this process as many open files as the system does: for connections, uploads or shards."""
    import resource  # Windows does not have it

    hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard_limit, hard_limit))


def forbid_core_dumps() -> None:
    """Let no crash of this process, or of a process that it starts, write its memory: it holds patients' frames."""
    import resource  # Windows does not have it

    hard_limit = resource.getrlimit(resource.RLIMIT_CORE)[1]
    limit = hard_limit if hard_limit == 0 else NO_CORE_BYTES
    resource.setrlimit(resource.RLIMIT_CORE, (limit, limit))
