"""The report of `benchmarks.capacity`."""

from typing import Any

from benchmarks.report import table


def to_markdown(figures: dict[str, Any]) -> str:
    frame, pod, day = figures["frame"], figures["pod"], figures["day"]
    return "\n\n".join(
        [
            f"**One pod.** {frame['upload']}, {frame['upload_bytes']:,} bytes; the mask has {frame['mask_bytes']:,}, "
            f"the audit line {frame['audit_bytes']:,}. A pod with {pod['cores']} cores answers "
            f"{pod['highest_per_second']} frames per second and is ready {pod['ready_seconds']} s after its start. "
            f"A client alone waits {pod['alone_median_ms']} ms for its mask. The client of the measurement uses the "
            "same cores.",
            "With Poisson arrivals. The formula gives the wait for a core alone, the measured times are of whole "
            "requests. The signal is the mean of running plus queued requests, which the autoscaler reads. By "
            "Little's law it is the rate times the mean time of a request in the service; the measured time includes "
            "the client.",
            table([_describe_load(row) for row in figures["loads"]]),
            "**Pods for a rate.** The 99th percentile of the wait for a core, in milliseconds: by the formula (all "
            "pods share one queue), and simulated for a load balancer that chooses the pod with the fewest "
            "requests, for one that takes the pods in turn, and for one that chooses at random.",
            table([_describe_rate(row) for row in figures["rates"]]),
            "**What is full first.**",
            table([_describe_limit(row) for row in figures["limits"]]),
            f"**A simulated day** with up to {day[0]['highest_per_second']:,} frames per second. The target is of "
            "running plus queued requests for each core of a pod.",
            table([_describe_day(row) for row in day]),
        ]
    )


def _describe_load(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "share of the highest rate": row["load"],
        "frames per second": row["per_second"],
        "median, ms": row["median_ms"],
        "p99, ms": row["p99_ms"],
        "wait by the formula, p99 ms": row["formula_waiting_p99_ms"],
        "signal": row["signal"],
        "rate times mean time": row["rate_times_mean_seconds"],
    }


def _describe_rate(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "frames per second": f"{row['frames_per_second']:,}",
        "pods": row["pods"],
        "utilisation": row["utilisation"],
        "formula": row["formula_ms"],
        **row["simulated_ms"],
    }


def _describe_limit(row: dict[str, Any]) -> dict[str, Any]:
    return {"part": row["part"], "frames per second": f"{row['frames_per_second']:,}"}


def _describe_day(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "target": row["target_per_core"],
        "pod-hours": row["pod_hours"],
        "pods at most": row["most_pods"],
        "changes": row["changes"],
        "wait, p99 ms": row["p99_waiting_ms"],
        "longest wait, s": row["longest_waiting_seconds"],
        "frames that wait over 0.1 s": f"{row['late_share']:.2%}",
        "refused": f"{row['refused_share']:.2%}",
    }
