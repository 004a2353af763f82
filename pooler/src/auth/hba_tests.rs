use proptest::prelude::*;

use super::*;

const TCP: Facts<'static> =
    Facts { address: None, tls: false, database: "shop", user: "anna", physical_replication: false };

fn from(address: &str) -> Facts<'static> {
    Facts { address: Some(address.parse().unwrap()), ..TCP }
}

fn problem(line: &str) -> String {
    parse_rule(line).unwrap_err().to_string()
}

#[test]
fn rules_fit_whom_they_are_about() {
    let tls = Facts { tls: true, ..from("10.0.0.7") };
    let v4 = from("10.0.0.7");
    let v6 = from("2001:db8::7");
    let mapped = from("::ffff:10.0.0.7");
    let local = TCP;
    let own = Facts { database: "anna", ..v4 };
    let physical = Facts { physical_replication: true, database: "", ..v4 };
    let table: &[(&str, Facts<'_>, bool)] = &[
        ("local all all trust", local, true),
        ("local all all trust", v4, false),
        ("host all all all trust", v4, true),
        ("host all all all trust", v6, true),
        ("host all all all trust", local, false),
        ("host all all 10.0.0.0/8 trust", v4, true),
        ("host all all 10.0.0.0/8 trust", tls, true),
        ("host all all 10.0.0.0/8 trust", mapped, true),
        ("host all all 10.1.0.0/16 trust", v4, false),
        ("host all all 10.0.0.0/8 trust", v6, false),
        ("host all all 10.0.0.99/24 trust", v4, true),
        ("host all all 10.0.0.0 255.255.255.0 trust", v4, true),
        ("host all all 10.0.1.0 255.255.255.0 trust", v4, false),
        ("host all all 0.0.0.0/0 trust", v4, true),
        ("host all all 0.0.0.0/0 trust", v6, false),
        ("host all all ::/0 trust", v6, true),
        ("host all all 2001:db8::/32 trust", v6, true),
        ("host all all 2001:db8:: ffff:ffff:: trust", v6, true),
        ("hostssl all all all trust", tls, true),
        ("hostssl all all all trust", v4, false),
        ("hostnossl all all all trust", tls, false),
        ("hostnossl all all all trust", v4, true),
        ("hostnogssenc all all all trust", v4, true),
        ("host shop all all trust", v4, true),
        ("host blog,shop all all trust", v4, true),
        ("host blog, shop all all trust", v4, true),
        ("host blog all all trust", v4, false),
        ("host \"shop\" \"anna\" all trust", v4, true),
        ("host \"all\" all all trust", v4, false),
        ("host all \"all\" all trust", v4, false),
        ("host all anna all trust", v4, true),
        ("host all bob,anna all trust", v4, true),
        ("host all bob all trust", v4, false),
        ("host sameuser all all trust", v4, false),
        ("host sameuser all all trust", own, true),
        ("host replication all all trust", v4, false),
        ("host replication all all trust", physical, true),
        ("host all all all trust", physical, false),
        ("host \"replication\" all all trust", physical, false),
    ];
    for (line, facts, expected) in table {
        assert_eq!(parse_rule(line).unwrap().fits(facts), *expected, "{line} against {facts:?}");
    }
}

#[test]
fn the_first_rule_that_fits_decides_and_none_refuses() {
    let rules =
        parse("host shop bob all trust\nhost shop all 10.0.0.0/8 reject\nhost all all all md5\n").unwrap();
    assert_eq!(
        decide(&rules, &from("10.0.0.7")).map(|rule| (rule.line, rule.method)),
        Some((2, Method::Reject))
    );
    assert_eq!(decide(&rules, &from("11.0.0.7")).map(|rule| rule.line), Some(3));
    assert_eq!(decide(&rules, &TCP), None);
}

#[test]
fn debians_own_file_is_read() {
    let text = "\
# Database administrative login by Unix domain socket
local   all             postgres                                peer

# TYPE  DATABASE        USER            ADDRESS                 METHOD
local   all             all                                     peer
host    all             all             127.0.0.1/32            scram-sha-256
host    all             all             ::1/128                 scram-sha-256
local   replication     all                                     peer
host    replication     all             127.0.0.1/32            scram-sha-256
host    replication     all             ::1/128                 scram-sha-256
";
    let rules = parse(text).unwrap();
    assert_eq!(rules.iter().map(|rule| rule.line).collect::<Vec<_>>(), [2, 5, 6, 7, 8, 9, 10]);
    assert_eq!(rules[0].users, [UserName::Literal("postgres".into())]);
}

#[test]
fn options_are_read() {
    let rule = parse_rule("hostssl all all all cert map=\"my map\"").unwrap();
    assert_eq!(rule.map.as_deref(), Some("my map"));
    let rule =
        parse_rule("hostssl all all all scram-sha-256 clientcert=verify-full map=m clientname=CN").unwrap();
    assert_eq!((rule.client_certificate, rule.map.as_deref()), (ClientCertificate::VerifyFull, Some("m")));
    assert_eq!(parse_rule("local all all ident map=m").unwrap().method, Method::Peer);
}

#[test]
fn what_cannot_be_done_is_refused_by_name() {
    let table = [
        ("hosts all all all trust", "invalid connection type \"hosts\""),
        ("hostgssenc all all all trust", "GSSAPI"),
        ("include other.conf", "included files"),
        ("host all", "end of line before user"),
        ("host all all", "end of line before address"),
        ("host all all all", "end of line before authentication method"),
        ("host all all 10.0.0.1 trust", "invalid mask \"trust\" for address \"10.0.0.1\""),
        ("host all all 10.0.0.1 255.0.255.0 trust", "invalid mask"),
        ("host all all 10.0.0.1 ffff:: trust", "invalid mask"),
        ("host all all 10.0.0.0/33 trust", "invalid address \"10.0.0.0/33\""),
        ("host all all 300.0.0.1 trust", "invalid address"),
        ("host all all 10.0.0.1,10.0.0.2 trust", "more than one value for address"),
        ("host all all db.example.com trust", "host names are not supported"),
        ("host all all .example.com trust", "host names are not supported"),
        ("host all all samehost trust", "CIDR"),
        ("host all all samenet trust", "CIDR"),
        ("host samerole all all trust", "group membership"),
        ("host all +staff all trust", "group membership"),
        ("host @dbs all all trust", "included files"),
        ("host all @users all trust", "included files"),
        ("host /^db all all trust", "regular expressions"),
        ("host all /^u all trust", "regular expressions"),
        ("host all all all scram", "invalid authentication method \"scram\""),
        ("host all all all ldap ldapserver=x", "not supported"),
        ("host all all all ident", "not supported"),
        ("host all all all peer", "local connections only"),
        ("host all all all cert", "hostssl connections only"),
        ("local all all scram-sha-256-plus", "hostssl connections only"),
        ("host all all all md5 map", "not in name=value format"),
        ("host all all all md5 mop=x", "unrecognized authentication option name: \"mop\""),
        ("host all all all md5 map=x", "option map means nothing here"),
        ("host all all all md5 clientcert=verify-ca", "hostssl lines only"),
        ("hostssl all all all md5 clientcert=1", "invalid value for clientcert"),
        ("hostssl all all all cert clientcert=verify-ca", "always verifies the name"),
        ("hostssl all all all cert clientname=DN", "DN is not supported"),
        ("host all \"all all trust", "not closed"),
        ("host \"\" all all trust", "end of line before database"),
        ("", "exactly one rule"),
        ("local all all trust\nlocal all all trust", "exactly one rule"),
    ];
    for (line, expected) in table {
        let got = problem(line);
        assert!(got.contains(expected), "{line}: {got}");
    }
}

#[test]
fn every_wrong_line_is_named() {
    let text = "local all all trust\nhost all all bad trust\n# fine\nhost\nlocal all \\\nall nothing\n";
    let errors = parse(text).unwrap_err();
    assert_eq!(errors.iter().map(|error| error.line).collect::<Vec<_>>(), [2, 4, 5]);
    assert_eq!(errors[1].to_string(), "line 4: end of line before database");
}

fn name() -> impl Strategy<Value = String> {
    "[a-zA-Z \",#=@+é]{1,8}|all|sameuser|replication".prop_filter("a leading slash", |n| !n.starts_with('/'))
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "(host |local |all |trust|[ -~]|\n|\"|,|é)*") {
        let _ = parse(&text);
        let _ = parse_rule(&text);
    }

    #[test]
    fn a_rule_is_read_back_as_written(
        databases in prop::collection::vec(name(), 1..4),
        users in prop::collection::vec(name(), 1..4),
        map in prop::option::of(name()),
        bits in any::<u32>(),
        length in 0u8..=32,
    ) {
        let network = IpNet::new(std::net::Ipv4Addr::from(bits).into(), length).unwrap().trunc();
        let rule = Rule {
            line: 0,
            connection: Connection::HostSsl,
            databases: databases.into_iter().map(DatabaseName::Literal).collect(),
            users: users.into_iter().map(UserName::Literal).chain([UserName::All]).collect(),
            address: Address::Network(network),
            method: Method::Cert,
            map,
            client_certificate: ClientCertificate::VerifyFull,
        };
        prop_assert_eq!(parse_rule(&rule.to_string()), Ok(rule));
    }
}
