// The console by pgjdbc: simple, extended, and prepared on the server.

import java.sql.*;
import java.util.Properties;

public class ConsoleCheck {
    public static void main(String[] arguments) throws Exception {
        String url = "jdbc:postgresql://" + System.getenv("PGHOST") + ":" + System.getenv("PGPORT") + "/" + System.getenv("PGDATABASE");
        for (String mode : new String[] {"simple", "extended", "extendedForPrepared"}) {
            Properties properties = new Properties();
            properties.setProperty("user", System.getenv("PGUSER"));
            properties.setProperty("password", System.getenv("PGPASSWORD"));
            properties.setProperty("sslmode", "disable");
            properties.setProperty("preferQueryMode", mode);
            properties.setProperty("prepareThreshold", "2");
            properties.setProperty("ApplicationName", "check");
            try (Connection connection = DriverManager.getConnection(url, properties)) {
                check(connection, mode);
            }
        }
        System.out.println("ok");
    }

    private static void check(Connection connection, String mode) throws SQLException {
        try (Statement statement = connection.createStatement()) {
            ResultSet state = statement.executeQuery("SHOW STATE");
            require(state.next() && state.getString("value").equals("yes"), mode);
            statement.execute("RELOAD");
        }
        String sql = "SELECT cl_active, \"user\" FROM hawser.pools WHERE database = ?";
        try (PreparedStatement prepared = connection.prepareStatement(sql)) {
            for (int turn = 0; turn < 6; turn++) {
                prepared.setString(1, "pgbouncer");
                ResultSet row = prepared.executeQuery();
                require(row.next() && row.getInt(1) == 1 && row.getString(2).equals("pgbouncer"), mode);
            }
        }
        try (Statement statement = connection.createStatement()) {
            statement.execute("SHOW nonsense");
            throw new AssertionError("nonsense went through");
        } catch (SQLException wrong) {
            require(wrong.getSQLState().equals("42601"), wrong.getSQLState());
        }
        // With transactions of its own: BEGIN, COMMIT, ROLLBACK.
        connection.setAutoCommit(false);
        try (Statement statement = connection.createStatement()) {
            require(statement.executeQuery("SHOW VERSION").next(), mode);
        }
        connection.commit();
        connection.setAutoCommit(true);
        require(connection.isValid(5), mode);
    }

    private static void require(boolean is, String what) {
        if (!is) {
            throw new AssertionError(what);
        }
    }
}
