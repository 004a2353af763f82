//! The page about the console, made of the descriptions. Pure.

use std::fmt::Write as _;

/// The page as Markdown: what `hawser reference console` prints.
#[must_use]
pub fn markdown() -> String {
    let mut text = String::from(INTRODUCTION);
    for (usage, help) in crate::console::COMMANDS {
        let _ = writeln!(text, "| `{usage}` | {help} |");
    }
    text.push_str("\n## Tables\n");
    for table in super::all() {
        let _ = write!(text, "\n### {}\n\n{}", table.name, table.help);
        text.push_str(match table.role {
            crate::door::Role::Admin => " Admins only.\n",
            crate::door::Role::Reader => "\n",
        });
        text.push_str("\n| column | type | |\n|---|---|---|\n");
        for column in table.columns {
            let _ = writeln!(text, "| {} | {} | {} |", column.name, column.kind.word(), column.help);
        }
    }
    text
}

const INTRODUCTION: &str = "# The console

Made by `hawser reference console`; do not edit.

Connect with any PostgreSQL client to the database `hawser`, or `pgbouncer` for tools that know that name:
`psql -h 127.0.0.1 -p 6432 -U admin hawser`. Users in `admin.users` may do everything, users in `admin.stats_users` may look. Over
the Unix socket the operating system's user that Hawser runs as needs no password (as itself, or as user `pgbouncer`).

`SHOW <table>` prints a table. `SELECT … FROM hawser.<table>` takes columns, `count(*)`, `WHERE` (`=`, `<>`, `<`, `>`, `<=`, `>=`, `LIKE`,
`IN`, `IS NULL`, `AND`, `OR`, `NOT`), `ORDER BY`, `LIMIT` and `OFFSET`, with parameters where a driver sends some. Tables that PgBouncer 1.25 has
too have its columns in its order; columns of ours come behind them.

## Commands

| command | |
|---|---|
";
