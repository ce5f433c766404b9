"""How long frames wait for a core: a formula for many pods, and a simulation that checks it."""

import math
from dataclasses import dataclass

import ciw
import numpy as np

WARM_UP_SHARE = 0.2  # of the simulated frames: the queues begin empty
PERCENT = 99
BALANCERS = FEWEST_REQUESTS, IN_TURN, RANDOM = "fewest requests", "in turn", "random"


@dataclass(frozen=True)
class Pod:
    """One pod. cores: frames that it processes at the same time. service_ms: times of a frame on one core."""

    cores: int
    service_ms: np.ndarray

    @property
    def frames_per_second(self) -> float:
        """The most frames per second that the pod answers."""
        return self.cores * 1000 / float(self.service_ms.mean())


def waiting_ms(pod: Pod, pods: int, frames_per_second: float) -> float:
    """Return the 99th percentile of the wait for a core, if all pods share one queue; infinite above their capacity.

    Frames arrive as a Poisson process. The mean wait is that of Allen and Cunneen for M/G/c (Allen 1990, Probability,
    Statistics, and Queueing Theory, section 5.3), and those who wait do so for an exponential time.
    """
    servers, rate = pods * pod.cores, frames_per_second / 1000
    mean = float(pod.service_ms.mean())
    if rate * mean >= servers:
        return math.inf
    waits = erlang_c(servers, rate * mean)
    if waits <= 1 - PERCENT / 100:
        return 0.0
    variation = float(pod.service_ms.var()) / mean**2
    mean_of_those_who_wait = mean / (servers - rate * mean) * (1 + variation) / 2
    return mean_of_those_who_wait * math.log(waits / (1 - PERCENT / 100))


def erlang_c(servers: int, load: float) -> float:
    """Return the probability that a customer of an M/M/c queue waits. load: arrival rate times mean service time."""
    blocked = 1.0  # Erlang B, by its recursion in the number of servers
    for number in range(1, servers + 1):
        blocked = load * blocked / (number + load * blocked)
    return servers * blocked / (servers - load * (1 - blocked))


def simulated_waiting_ms(pod: Pod, pods: int, frames_per_second: float, frames: int, balancer: str) -> float:
    """Return the 99th percentile of the wait in a simulation of `frames` frames; seeded. balancer: of BALANCERS."""
    network = ciw.create_network(
        arrival_distributions=[ciw.dists.Exponential(frames_per_second / 1000), *[None] * pods],
        service_distributions=[ciw.dists.Deterministic(0), *[ciw.dists.Empirical(pod.service_ms.tolist())] * pods],
        number_of_servers=[math.inf, *[pod.cores] * pods],
        routing=ciw.routing.NetworkRouting(routers=[_router(balancer, pods), *[ciw.routing.Leave()] * pods]),
    )
    ciw.seed(1)
    simulation = ciw.Simulation(network)
    simulation.simulate_until_max_time(1000 * frames / frames_per_second)
    records = sorted((record for record in simulation.get_all_records() if record.node > 1), key=_arrival)
    return float(
        np.percentile([record.waiting_time for record in records[int(WARM_UP_SHARE * len(records)) :]], PERCENT)
    )


def _router(balancer: str, pods: int) -> "ciw.routing.NodeRouting":
    """Return what chooses the pod of a frame. The first node of the network is the load balancer."""
    all_pods = list(range(2, pods + 2))
    if balancer == FEWEST_REQUESTS:
        return ciw.routing.LoadBalancing(destinations=all_pods)
    if balancer == IN_TURN:
        return ciw.routing.Cycle(cycle=all_pods)
    share = (1 - 1e-9) / pods  # Ciw refuses shares whose sum rounds to more than 1
    return ciw.routing.Probabilistic(destinations=all_pods, probs=[share] * pods)


def _arrival(record: "ciw.data_record.DataRecord") -> float:
    return float(record.arrival_date)
