"""psql at a terminal, with tabs: what it asks for completions must neither hang nor break the session."""

import os
import pty
import select
import sys
import time

LINES = [
    "SHOW P\t\t", "SELECT * FROM \t\t", "SELECT * FROM hawser.\t\t", "SELECT * FROM po\t\t", "\\d \t\t", "\\d hawser.\t\t",
    "\\df \t\t", "\\c \t\t", "SET \t\t", "SET search_path TO \t\t", "ALTER TABLE \t\t", "DROP ROLE \t\t", "GRANT \t\t",
    "UPDATE \t\t", "INSERT INTO \t\t", "TABLE \t\t", "COPY \t\t", "LISTEN \t\t", "EXECUTE \t\t", "\\encoding \t\t",
]


def read_until(fd, mark, patience=20):
    """What comes until `mark` is there."""
    seen = b""
    end = time.monotonic() + patience
    while mark not in seen:
        ready, _, _ = select.select([fd], [], [], max(0, end - time.monotonic()))
        if not ready:
            sys.exit("waited in vain for %r after %r" % (mark, seen[-2000:]))
        seen += os.read(fd, 65536)
    return seen


pid, fd = pty.fork()
if pid == 0:
    os.environ.update(TERM="dumb", INPUTRC="/dev/null", PSQL_HISTORY="/dev/null", PSQL_PAGER="cat", PAGER="cat")
    os.execv(sys.argv[1], [sys.argv[1], "-X", "-P", "pager=off"])
read_until(fd, b"hawser=")
for number, line in enumerate(LINES):
    # Ctrl-E and Ctrl-U give the line up, whatever was completed.
    os.write(fd, line.encode() + b"\x05\x15")
    os.write(fd, b"\\echo line %d is over\n" % number)
    seen = read_until(fd, b"\nline %d is over" % number)
    for words in (b"server closed", b"synchronization", b"message type"):
        assert words not in seen, seen
os.write(fd, b"SHOW STATE;\n")
read_until(fd, b"suspended")
os.write(fd, b"\\q\n")
os.waitpid(pid, 0)
print("ok")
