import java.io.StringReader;
import java.io.StringWriter;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Savepoint;
import java.sql.Statement;
import java.util.ArrayList;
import java.util.List;
import java.util.Properties;
import org.postgresql.PGConnection;
import org.postgresql.PGNotification;

/** pgjdbc: server-prepared statements after five runs, batches, fetch size, COPY, savepoints, cancel by timeout, LISTEN. */
public class PgCheck {
    static final int CLIENTS = 4;

    static Connection connect() throws SQLException {
        Properties settings = new Properties();
        settings.setProperty("user", System.getenv("CHECK_USER"));
        settings.setProperty("password", System.getenv("CHECK_PASSWORD"));
        String ca = System.getenv("CHECK_CA");
        settings.setProperty("sslmode", ca == null ? "disable" : "verify-full");
        if (ca != null) {
            settings.setProperty("sslrootcert", ca);
        }
        return DriverManager.getConnection(System.getenv("CHECK_URL"), settings);
    }

    static void check(boolean is, String what) {
        if (!is) {
            throw new AssertionError(what);
        }
    }

    static long value(Connection connection, String sql) throws SQLException {
        try (Statement statement = connection.createStatement(); ResultSet rows = statement.executeQuery(sql)) {
            check(rows.next(), sql);
            return rows.getLong(1);
        }
    }

    static void fails(Connection connection, String sql, String state) {
        try (Statement statement = connection.createStatement()) {
            statement.execute(sql);
        } catch (SQLException error) {
            check(state.equals(error.getSQLState()), sql + " gave " + error.getSQLState() + " " + error.getMessage());
            return;
        }
        throw new AssertionError(sql + " went through");
    }

    static void listen(Connection connection, int who) throws Exception {
        PGConnection session = connection.unwrap(PGConnection.class);
        try (Connection other = connect(); Statement mine = connection.createStatement(); Statement theirs = other.createStatement()) {
            mine.execute("LISTEN java_" + who);
            mine.execute("NOTIFY java_" + who + ", 'own'");
            // Without a wait: they are there before the statement ends.
            PGNotification[] own = session.getNotifications();
            check(own != null && own.length == 1 && own[0].getParameter().equals("own"), "its own notification");
            check(own[0].getPID() == session.getBackendPID(), "its own process number");
            for (int i = 0; i < 50; i++) {
                theirs.execute("NOTIFY java_" + who + ", '" + i + "'");
            }
            int heard = 0;
            while (heard < 50) {
                PGNotification[] some = session.getNotifications(10000);
                check(some != null && some.length > 0, "notification " + heard);
                for (PGNotification one : some) {
                    check(one.getParameter().equals(String.valueOf(heard++)), "in order");
                }
            }
            mine.execute("UNLISTEN *");
        }
    }

    static void work(int who) throws Exception {
        try (Connection connection = connect()) {
            try (PreparedStatement statement = connection.prepareStatement("SELECT ?::int * 2, ?::text")) {
                for (int i = 0; i < 30; i++) {
                    statement.setInt(1, i);
                    statement.setString(2, "ä€ " + i);
                    try (ResultSet rows = statement.executeQuery()) {
                        check(rows.next() && rows.getInt(1) == i * 2 && rows.getString(2).equals("ä€ " + i), "row " + i);
                    }
                }
            }
            fails(connection, "SELECT 1 / 0", "22012");

            connection.setAutoCommit(false);
            try (PreparedStatement insert = connection.prepareStatement("INSERT INTO java_rows VALUES (?, ?)")) {
                for (int i = 0; i < 500; i++) {
                    insert.setInt(1, who * 1000 + i);
                    insert.setString(2, "batch");
                    insert.addBatch();
                }
                insert.executeBatch();
            }
            Savepoint savepoint = connection.setSavepoint();
            fails(connection, "SELECT * FROM no_such_table", "42P01");
            connection.rollback(savepoint);
            connection.commit();
            check(value(connection, "SELECT count(*) FROM java_rows WHERE id / 1000 = " + who) == 500, "rows kept");

            try (Statement statement = connection.createStatement()) {
                statement.setFetchSize(50);
                long sum = 0;
                try (ResultSet rows = statement.executeQuery("SELECT generate_series(1, 1000)")) {
                    while (rows.next()) {
                        sum += rows.getInt(1);
                    }
                }
                check(sum == 500500, "fetch size");
            }
            connection.commit();
            connection.setAutoCommit(true);

            var copy = connection.unwrap(PGConnection.class).getCopyAPI();
            StringBuilder lines = new StringBuilder();
            for (int i = 500; i < 999; i++) {
                lines.append(who * 1000 + i).append("\tcopied\n");
            }
            check(copy.copyIn("COPY java_rows FROM STDIN", new StringReader(lines.toString())) == 499, "copy in");
            StringWriter out = new StringWriter();
            copy.copyOut("COPY (SELECT id FROM java_rows WHERE id / 1000 = " + who + ") TO STDOUT", out);
            check(out.toString().lines().count() == 999, "copy out");

            try (Statement statement = connection.createStatement()) {
                // Long enough for the query to be on its way: a cancel that comes before it meets nothing.
                statement.setQueryTimeout(3);
                statement.execute("SELECT pg_sleep(30)");
                throw new AssertionError("the query was not cancelled");
            } catch (SQLException error) {
                check("57014".equals(error.getSQLState()), "cancel gave " + error.getSQLState());
            }
            check(value(connection, "SELECT 9") == 9, "after the cancel");
            listen(connection, who);
        }
    }

    public static void main(String[] arguments) throws Exception {
        try (Connection connection = connect(); Statement statement = connection.createStatement()) {
            statement.execute("CREATE TABLE java_rows (id int, text text)");
        }
        List<Throwable> failures = java.util.Collections.synchronizedList(new ArrayList<>());
        List<Thread> threads = new ArrayList<>();
        for (int who = 1; who <= CLIENTS; who++) {
            int me = who;
            Thread thread = new Thread(() -> {
                try {
                    work(me);
                } catch (Throwable failure) {
                    failures.add(failure);
                }
            });
            thread.start();
            threads.add(thread);
        }
        for (Thread thread : threads) {
            thread.join();
        }
        if (!failures.isEmpty()) {
            failures.get(0).printStackTrace();
            System.exit(1);
        }
        System.out.println("pgjdbc " + org.postgresql.Driver.getVersion() + " ok");
    }
}
