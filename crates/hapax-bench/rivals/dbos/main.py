"""DBOS on the outbox benchmark's work: `main.py URL JOBS CONCURRENCY` enqueues so many workflows that do nothing in an
empty database, lets a queue run them, and prints how many seconds that took.

The queue polls a hundred times as often as it does by default: at each poll it takes no more than may run at a time.
"""

import sys
import time
from concurrent.futures import ThreadPoolExecutor

import psycopg
from dbos import DBOS

LEFT = "SELECT count(*) FROM dbos.workflow_status WHERE queue_name = 'nothing' AND status <> 'SUCCESS'"

# A number would lose what threads add to it at once.
ran: list[str] = []


@DBOS.workflow()
def nothing(note: str) -> None:
    ran.append(note)


def lay(connection: psycopg.Connection, jobs: int) -> None:
    """Nobody serves the queue yet."""
    with ThreadPoolExecutor(16) as threads:
        handles = threads.map(lambda _: DBOS.enqueue_workflow("nothing", nothing, "x" * 100), range(jobs))
        assert len(list(handles)) == jobs
    connection.execute("VACUUM (ANALYZE)")
    connection.execute("CHECKPOINT")


def main() -> None:
    url, jobs, concurrency = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    url = url.replace("postgres://", "postgresql://")
    DBOS(config={"name": "bench", "system_database_url": url, "log_level": "WARNING"})
    DBOS.launch()
    connection = psycopg.connect(url, autocommit=True)
    lay(connection, jobs)
    DBOS.register_queue("nothing", worker_concurrency=concurrency, polling_interval_sec=0.01)
    # Until the queue is noticed, nothing is measured.
    while not ran:
        time.sleep(0.001)
    start = time.monotonic()
    while len(ran) < jobs or connection.execute(LEFT).fetchone()[0] > 0:
        time.sleep(0.005)
    print(time.monotonic() - start)
    DBOS.destroy()
    if len(ran) != jobs:
        sys.exit(f"{len(ran)} workflows ran instead of {jobs}")


main()
