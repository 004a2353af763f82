"""psycopg 3: statements prepared by the driver, COPY, errors, server-side cursors, pipeline mode, two-way traffic, LISTEN."""

import datetime
import decimal
import threading

import psycopg
from psycopg import sql

CLIENTS = 4


def basics(conn):
    with conn.cursor() as cur:
        cur.execute("SELECT %s::int + 1, %s::text, %s::numeric, %s::date, %s::bytea",
                    (41, "ä€'", decimal.Decimal("1.50"), datetime.date(2026, 2, 28), b"\x00\xff"))
        assert cur.fetchone() == (42, "ä€'", decimal.Decimal("1.50"), datetime.date(2026, 2, 28), b"\x00\xff")
        cur.execute("SELECT %b::int8, %b::float8", (2**40, 1.25))
        assert cur.fetchone() == (2**40, 1.25)
        cur.execute("SELECT generate_series(1, 10000)")
        assert sum(row[0] for row in cur) == 50005000


def prepared(conn, who):
    # After five runs the driver prepares the statement under a name of its own; every run is a transaction of its own.
    conn.autocommit = True
    for i in range(30):
        assert conn.execute("SELECT %s::int * 2, %s::int", (i, who)).fetchone() == (i * 2, who)
    for i in range(120):
        query = sql.SQL("SELECT %s::int + {}").format(sql.Literal(i))
        assert conn.execute(query, (who,), prepare=True).fetchone() == (who + i,)
    conn.autocommit = False


def errors(conn):
    try:
        with conn.transaction():
            conn.execute("SELECT 1 / %s::int", (0,))
        raise AssertionError("a division by zero went through")
    except psycopg.errors.DivisionByZero:
        pass
    assert conn.execute("SELECT 'still here'").fetchone() == ("still here",)
    with conn.transaction():
        conn.execute("INSERT INTO psycopg_rows VALUES (-1, 'kept')")
        try:
            with conn.transaction():
                conn.execute("INSERT INTO psycopg_rows VALUES (-2, 'undone')")
                conn.execute("SELECT * FROM no_such_table")
        except psycopg.errors.UndefinedTable:
            pass
    assert conn.execute("SELECT count(*) FROM psycopg_rows WHERE id < 0").fetchone() == (1,)
    conn.execute("DELETE FROM psycopg_rows WHERE id < 0")
    conn.commit()


def copy(conn, who):
    with conn.cursor() as cur:
        with cur.copy("COPY psycopg_rows FROM STDIN") as copy_in:
            for i in range(5000):
                copy_in.write_row((who * 100000 + i, f"row {i} of {who}"))
        conn.commit()
        with cur.copy(f"COPY (SELECT id FROM psycopg_rows WHERE id / 100000 = {who} ORDER BY id) TO STDOUT") as copy_out:
            ids = [int(row[0]) for row in copy_out.rows()]
        assert ids == [who * 100000 + i for i in range(5000)]
        conn.commit()
        try:
            with cur.copy("COPY psycopg_rows FROM STDIN") as copy_in:
                copy_in.write_row((0, "never"))
                raise KeyError("the client changes its mind")
        except KeyError:
            pass
        conn.rollback()
        assert conn.execute("SELECT count(*) FROM psycopg_rows WHERE id = 0").fetchone() == (0,)
        conn.commit()


def server_side_cursor(conn):
    with conn.transaction(), conn.cursor(name="walk") as cur:
        cur.itersize = 100
        cur.execute("SELECT generate_series(1, 1000)")
        assert sum(row[0] for row in cur) == 500500


def pipeline(conn):
    with conn.pipeline() as pipe:
        cursors = [conn.execute("SELECT %s::int", (i,)) for i in range(200)]
        pipe.sync()
        assert [cur.fetchone()[0] for cur in cursors] == list(range(200))
    conn.commit()
    try:
        with conn.pipeline() as pipe:
            conn.execute("SELECT 1")
            conn.execute("SELECT 1 / 0")
            conn.execute("SELECT 2")
            pipe.sync()
        raise AssertionError("a division by zero went through")
    except psycopg.errors.DivisionByZero:
        conn.rollback()
    assert conn.execute("SELECT 7").fetchone() == (7,)
    conn.commit()


def cancel(conn):
    # Again and again: a cancel that comes before the query meets nothing.
    cancelled = threading.Event()

    def insist():
        while not cancelled.wait(0.3):
            conn.cancel()

    insisting = threading.Thread(target=insist)
    insisting.start()
    try:
        conn.execute("SELECT pg_sleep(30)")
        raise AssertionError("the query was not cancelled")
    except psycopg.errors.QueryCanceled:
        pass
    finally:
        cancelled.set()
        insisting.join()
    conn.rollback()
    assert conn.execute("SELECT 8").fetchone() == (8,)
    conn.commit()


def listen(conn, who):
    conn.autocommit = True
    channel = f"psycopg_{who}"
    conn.execute(f"LISTEN {channel}")
    # Its own come before the end of the statement, with its own process number.
    conn.execute("SELECT pg_notify(%s, 'own')", (channel,))
    own = next(conn.notifies(timeout=10))
    assert (own.channel, own.payload, own.pid) == (channel, "own", conn.info.backend_pid), own
    with psycopg.connect("", autocommit=True) as other:
        for i in range(50):
            other.execute(f"NOTIFY {channel}, '{i}'")
    heard = []
    for notify in conn.notifies(timeout=10, stop_after=50):
        heard.append(notify.payload)
    assert heard == [str(i) for i in range(50)], heard
    conn.execute(f"UNLISTEN {channel}")
    conn.autocommit = False


def one(who, failures):
    try:
        with psycopg.connect("") as conn:
            for step in (basics, errors, server_side_cursor, pipeline, cancel):
                step(conn)
            listen(conn, who)
            prepared(conn, who)
            copy(conn, who)
    except BaseException as error:  # noqa: BLE001: reported below
        failures.append((who, repr(error)))
        raise


with psycopg.connect("", autocommit=True) as first:
    first.execute("CREATE TABLE psycopg_rows (id int, text text)")
failures = []
threads = [threading.Thread(target=one, args=(who, failures)) for who in range(1, CLIENTS + 1)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert not failures, failures
print("psycopg", psycopg.__version__, "ok")
