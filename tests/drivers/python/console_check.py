"""The console by psycopg 3 (text and binary, prepared) and asyncpg (binary, always prepared)."""

import asyncio
import os

import asyncpg
import psycopg


def by_psycopg():
    with psycopg.connect("") as conn:
        # Without autocommit the driver sends BEGIN and COMMIT.
        assert conn.execute("SHOW state").fetchone() == ("active", "yes")
        conn.commit()
        conn.autocommit = True
        for binary in (False, True):
            with conn.cursor(binary=binary) as cur:
                cur.execute("SELECT database, cl_active, pool_mode FROM hawser.pools WHERE database = %s", ("pgbouncer",))
                assert cur.fetchone() == ("pgbouncer", 1, "statement")
                cur.execute("SHOW stats")
                names = [column.name for column in cur.description]
                assert names[:3] == ["database", "total_server_assignment_count", "total_xact_count"]
                assert all(isinstance(value, int) or value == int(value) for row in cur for value in row[1:])
        for _ in range(10):
            row = conn.execute("SELECT count(*) FROM hawser.settings WHERE name LIKE %s", ("pool.%",), prepare=True).fetchone()
            assert row[0] > 10, row
        try:
            conn.execute("SHOW nonsense")
            raise AssertionError("nonsense went through")
        except psycopg.errors.SyntaxError:
            pass
        assert conn.execute("PAUSE").statusmessage == "PAUSE"
        assert conn.execute("RESUME").statusmessage == "RESUME"


async def by_asyncpg():
    conn = await asyncpg.connect(host=os.environ["PGHOST"], ssl=False)
    rows = await conn.fetch("SELECT name, pool_size FROM hawser.databases WHERE pool_size >= $1 ORDER BY 1 LIMIT $2", 2, 1)
    assert [tuple(row) for row in rows] == [("pgbouncer", 2)], rows
    totals = await conn.fetch("SHOW totals")
    assert totals[0]["name"] == "total_server_assignment_count" and totals[0]["value"] >= 0
    assert await conn.execute("RELOAD") == "RELOAD"
    async with conn.transaction():
        assert await conn.fetchval("SELECT version()")
    await conn.close()


by_psycopg()
asyncio.run(by_asyncpg())
print("ok")
