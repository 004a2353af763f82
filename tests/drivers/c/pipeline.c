/* libpq's pipeline mode: many batches under way, errors in the middle, Flush without Sync, chunks of a big result. */
#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static PGconn *conn;

static void fail(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, conn ? PQerrorMessage(conn) : "");
    exit(1);
}

/* One result of this kind, then the NULL that ends its query. */
static void expect(ExecStatusType status, const char *value)
{
    PGresult *result = PQgetResult(conn);
    if (!result || PQresultStatus(result) != status) {
        fprintf(stderr, "wanted %s, got %s\n", PQresStatus(status), result ? PQresStatus(PQresultStatus(result)) : "nothing");
        fail("result");
    }
    if (value && strcmp(PQgetvalue(result, 0, 0), value) != 0) {
        fprintf(stderr, "wanted %s, got %s\n", value, PQgetvalue(result, 0, 0));
        fail("value");
    }
    PQclear(result);
    if (status != PGRES_PIPELINE_SYNC && PQgetResult(conn) != NULL)
        fail("more than one result");
}

static void send_value(int i)
{
    char text[16];
    const char *values[1] = {text};
    snprintf(text, sizeof text, "%d", i);
    if (!PQsendQueryPrepared(conn, "echo", 1, values, NULL, NULL, 0))
        fail("PQsendQueryPrepared");
}

int main(void)
{
    conn = PQconnectdb("");
    if (PQstatus(conn) != CONNECTION_OK)
        fail("connect");
    if (!PQenterPipelineMode(conn))
        fail("PQenterPipelineMode");

    /* A statement prepared in the pipeline that uses it, many Syncs under way. */
    if (!PQsendPrepare(conn, "echo", "SELECT $1::int", 1, NULL))
        fail("PQsendPrepare");
    for (int batch = 0; batch < 50; batch++) {
        for (int i = 0; i < 10; i++)
            send_value(batch * 10 + i);
        if (!PQpipelineSync(conn))
            fail("PQpipelineSync");
    }
    expect(PGRES_COMMAND_OK, NULL);
    for (int batch = 0; batch < 50; batch++) {
        for (int i = 0; i < 10; i++) {
            char text[16];
            snprintf(text, sizeof text, "%d", batch * 10 + i);
            expect(PGRES_TUPLES_OK, text);
        }
        expect(PGRES_PIPELINE_SYNC, NULL);
    }

    /* An error spoils the rest of its batch and nothing else. */
    send_value(1);
    PQsendQueryParams(conn, "SELECT 1 / 0", 0, NULL, NULL, NULL, NULL, 0);
    send_value(2);
    PQpipelineSync(conn);
    send_value(3);
    PQpipelineSync(conn);
    expect(PGRES_TUPLES_OK, "1");
    expect(PGRES_FATAL_ERROR, NULL);
    expect(PGRES_PIPELINE_ABORTED, NULL);
    expect(PGRES_PIPELINE_SYNC, NULL);
    expect(PGRES_TUPLES_OK, "3");
    expect(PGRES_PIPELINE_SYNC, NULL);

    /* Flush: the answer comes although there is no Sync yet. */
    send_value(4);
    if (!PQsendFlushRequest(conn) || PQflush(conn) != 0)
        fail("PQsendFlushRequest");
    expect(PGRES_TUPLES_OK, "4");
    send_value(5);
    PQpipelineSync(conn);
    expect(PGRES_TUPLES_OK, "5");
    expect(PGRES_PIPELINE_SYNC, NULL);

    /* A transaction over several batches. */
    PQsendQueryParams(conn, "BEGIN", 0, NULL, NULL, NULL, NULL, 0);
    PQpipelineSync(conn);
    PQsendQueryParams(conn, "SELECT txid_current() = txid_current()", 0, NULL, NULL, NULL, NULL, 0);
    PQpipelineSync(conn);
    PQsendQueryParams(conn, "COMMIT", 0, NULL, NULL, NULL, NULL, 0);
    PQpipelineSync(conn);
    expect(PGRES_COMMAND_OK, NULL);
    expect(PGRES_PIPELINE_SYNC, NULL);
    expect(PGRES_TUPLES_OK, "t");
    expect(PGRES_PIPELINE_SYNC, NULL);
    expect(PGRES_COMMAND_OK, NULL);
    expect(PGRES_PIPELINE_SYNC, NULL);

    if (!PQexitPipelineMode(conn))
        fail("PQexitPipelineMode");
    PGresult *result = PQexec(conn, "SELECT 6");
    if (PQresultStatus(result) != PGRES_TUPLES_OK || strcmp(PQgetvalue(result, 0, 0), "6") != 0)
        fail("after the pipeline");
    PQclear(result);
    PQfinish(conn);
    puts("libpq pipeline ok");
    return 0;
}
