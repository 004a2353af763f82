"""asyncpg: its own protocol, binary formats, its statement cache on and off, COPY, cursors, cancel by timeout, LISTEN."""

import asyncio
import datetime
import os
import ssl
import sys

import asyncpg

CLIENTS = 4


def settings(**more):
    tls = None
    if os.environ.get("CHECK_CA"):
        tls = ssl.create_default_context(cafile=os.environ["CHECK_CA"])
    return dict(ssl=tls if tls else False, **more)


async def work(conn, who):
    for i in range(40):
        assert await conn.fetchval("SELECT $1::int * 2 + $2::int", i, who) == i * 2 + who
    row = await conn.fetchrow("SELECT $1::text[] AS a, $2::jsonb AS j, $3::timestamptz AS t",
                              ["x", None], '{"k": 1}', datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc))
    assert row["a"] == ["x", None] and row["t"].year == 2026

    try:
        await conn.fetchval("SELECT 1 / $1::int", 0)
        raise AssertionError("a division by zero went through")
    except asyncpg.DivisionByZeroError:
        pass

    async with conn.transaction():
        await conn.execute("INSERT INTO asyncpg_rows VALUES ($1, 'one')", who)
        total = 0
        async for record in conn.cursor("SELECT generate_series(1, 1000) AS n", prefetch=50):
            total += record["n"]
        assert total == 500500
        try:
            async with conn.transaction():
                await conn.execute("INSERT INTO asyncpg_rows VALUES (NULL, NULL), (1/0, 'x')")
        except asyncpg.DivisionByZeroError:
            pass
    assert await conn.fetchval("SELECT count(*) FROM asyncpg_rows WHERE id = $1", who) == 1

    await conn.executemany("INSERT INTO asyncpg_rows VALUES ($1, $2)", [(who * 1000 + i, str(i)) for i in range(1, 501)])
    assert await conn.fetchval("SELECT count(*) FROM asyncpg_rows WHERE id / 1000 = $1", who) == 500
    await conn.copy_records_to_table("asyncpg_rows", records=[(who * 1000 + i, "copied") for i in range(501, 999)])
    assert await conn.fetchval("SELECT count(*) FROM asyncpg_rows WHERE id / 1000 = $1", who) == 998

    try:
        await conn.fetchval("SELECT pg_sleep(30)", timeout=0.3)
        raise AssertionError("the query was not cancelled")
    except asyncio.TimeoutError:
        pass
    assert await conn.fetchval("SELECT 9") == 9


async def listen(conn, who):
    heard = asyncio.Queue()

    def note(_, pid, channel, payload):
        heard.put_nowait((channel, payload))

    channel = f"asyncpg_{who}"
    await conn.add_listener(channel, note)
    other = await asyncpg.connect(**settings())
    for i in range(50):
        await other.execute("SELECT pg_notify($1, $2)", channel, str(i))
    await other.close()
    await conn.execute(f"NOTIFY {channel}, 'own'")
    for wanted in [*map(str, range(50)), "own"]:
        assert await asyncio.wait_for(heard.get(), 10) == (channel, wanted)
    await conn.remove_listener(channel, note)


async def one(who, cache):
    conn = await asyncpg.connect(**settings(statement_cache_size=cache))
    await work(conn, who)
    await listen(conn, who)
    await conn.close()


async def pooled():
    async with asyncpg.create_pool(**settings(min_size=2, max_size=4)) as pool:
        async def task(i):
            async with pool.acquire() as conn:
                assert await conn.fetchval("SELECT $1::int", i) == i
        await asyncio.gather(*(task(i) for i in range(100)))


async def main(cache):
    conn = await asyncpg.connect(**settings())
    await conn.execute("DROP TABLE IF EXISTS asyncpg_rows; CREATE TABLE asyncpg_rows (id int, text text)")
    await conn.close()
    await asyncio.gather(*(one(who, cache) for who in range(1, CLIENTS + 1)))
    await pooled()
    print("asyncpg", asyncpg.__version__, "cache", cache, "ok")


asyncio.run(main(int(sys.argv[1])))
