use proptest::prelude::*;

use super::*;

fn startup(version: ProtocolVersion, parameters: &[u8]) -> Result<FirstPacket, StartupError> {
    let mut body = version.code().to_be_bytes().to_vec();
    body.extend_from_slice(parameters);
    FirstPacket::parse(&body)
}

fn message(version: ProtocolVersion, parameters: &[u8]) -> StartupMessage {
    match startup(version, parameters) {
        Ok(FirstPacket::Startup(message)) => message,
        other => panic!("not a startup message: {other:?}"),
    }
}

fn head(length: u32, code: u32) -> [u8; 8] {
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&length.to_be_bytes());
    bytes[4..].copy_from_slice(&code.to_be_bytes());
    bytes
}

#[test]
fn a_startup_message_written_by_us_is_read_back() {
    for version in [ProtocolVersion::V3_0, ProtocolVersion::V3_2] {
        let words = [("user", "anna"), ("database", "shop"), ("options", ""), ("client_encoding", "UTF8")];
        let mut out = BytesMut::new();
        encode_startup(version, words, &mut out).unwrap();
        let first: [u8; 8] = out[..8].try_into().unwrap();
        let read = Head::read(first, 10_000).unwrap();
        assert_eq!(read, Head { length: out.len(), kind: Kind::Startup(version) });
        let Ok(FirstPacket::Startup(message)) = FirstPacket::parse(&out[4..]) else { panic!("not parsed") };
        assert_eq!(message.version, version);
        assert_eq!(message.user(), "anna");
        assert_eq!(message.database(), "shop");
        assert_eq!(message.settings().collect::<Vec<_>>(), [("client_encoding", "UTF8")]);
        assert_eq!(message.negotiation(), None);
    }
}

#[test]
fn lengths_outside_the_bounds_are_refused_before_anything_is_read() {
    let code = ProtocolVersion::V3_0.code();
    for length in [0, 3, 7, 10_001, 0x7fff_ffff, u32::MAX] {
        assert_eq!(Head::read(head(length, code), 10_000), Err(StartupError::Length { length, max: 10_000 }));
    }
    assert!(Head::read(head(8, code), 10_000).is_ok());
    assert!(Head::read(head(10_000, code), 10_000).is_ok());
}

#[test]
fn encryption_requests_have_exactly_eight_bytes() {
    assert_eq!(Head::read(ssl_request(), 10_000).unwrap(), Head { length: 8, kind: Kind::Ssl });
    assert_eq!(Head::read(head(8, 80_877_104), 10_000).unwrap().kind, Kind::GssEnc);
    assert_eq!(Head::read(head(9, 80_877_103), 10_000), Err(StartupError::EncryptionRequestBody));
    assert_eq!(FirstPacket::parse(&ssl_request()[4..]), Ok(FirstPacket::Ssl));
    assert_eq!(FirstPacket::parse(&80_877_104_u32.to_be_bytes()), Ok(FirstPacket::GssEnc));
    assert_eq!(FirstPacket::parse(&[4, 210, 22, 47, 0]), Err(StartupError::EncryptionRequestBody));
}

#[test]
fn cancel_requests_carry_keys_of_4_to_256_bytes() {
    for length in [4, 32, 256] {
        let request = CancelRequest { pid: 0xdead_beef, key: vec![7; length] };
        let mut out = BytesMut::new();
        encode_cancel(&request, &mut out).unwrap();
        let read = Head::read(out[..8].try_into().unwrap(), 10_000).unwrap();
        assert_eq!(read, Head { length: out.len(), kind: Kind::Cancel });
        assert_eq!(FirstPacket::parse(&out[4..]), Ok(FirstPacket::Cancel(request)));
    }
    for length in [0, 3, 257] {
        let request = CancelRequest { pid: 1, key: vec![7; length] };
        let refused = StartupError::CancelKeyLength(length);
        assert_eq!(encode_cancel(&request, &mut BytesMut::new()), Err(refused.clone()));
        let mut body = 80_877_102_u32.to_be_bytes().to_vec();
        body.extend([0, 0, 0, 1]);
        body.extend(&request.key);
        assert_eq!(FirstPacket::parse(&body), Err(refused.clone()));
        let length = u32::try_from(body.len() + 4).unwrap();
        assert_eq!(Head::read(head(length, 80_877_102), 10_000), Err(refused));
    }
}

#[test]
fn a_cancel_key_does_not_show_in_debug() {
    let shown = format!("{:?}", CancelRequest { pid: 5, key: vec![0xab; 4] });
    assert!(shown.contains('5') && !shown.contains("171"), "{shown}");
}

#[test]
fn broken_layouts_are_refused_with_their_reason() {
    let cases: &[(&[u8], StartupError)] = &[
        (b"", StartupError::Terminator),
        (b"user\0anna\0", StartupError::Terminator),
        (b"user\0anna", StartupError::Terminator),
        (b"user\0anna\0\0\0", StartupError::EmptyName),
        (b"user\0", StartupError::Terminator),
        (b"user\0\0", StartupError::NoValue("user".into())),
        (b"user\0anna\0database\0\0", StartupError::NoValue("database".into())),
        (b"user\0a\0user\0b\0\0", StartupError::Duplicate("user".into())),
        (b"user\0a\0x\0\xff\0\0", StartupError::Encoding),
        (b"user\0a\0\xff\0x\0\0", StartupError::Encoding),
        (b"database\0shop\0\0", StartupError::NoUser),
        (b"user\0\0\0", StartupError::NoUser),
        (b"\0", StartupError::NoUser),
    ];
    for (parameters, expected) in cases {
        let got = startup(ProtocolVersion::V3_0, parameters);
        assert_eq!(got.as_ref(), Err(expected), "{parameters:?}");
    }
}

#[test]
fn other_major_versions_are_refused_as_unsupported() {
    for (major, minor) in [(2, 0), (1, 0), (4, 0), (1234, 1), (0, 0)] {
        let got = startup(ProtocolVersion { major, minor }, b"user\0a\0\0");
        assert_eq!(got, Err(StartupError::Version { major, minor }));
        assert_eq!(got.unwrap_err().sqlstate(), "0A000");
    }
}

#[test]
fn newer_minors_and_unknown_options_are_negotiated() {
    let plain = b"user\0a\0\0";
    let table = [(0, None), (1, Some(0)), (2, None), (3, Some(2)), (9999, Some(2)), (u16::MAX, Some(2))];
    for (asked, answered) in table {
        let negotiation = message(ProtocolVersion { major: 3, minor: asked }, plain).negotiation();
        assert_eq!(negotiation.map(|n| n.version.minor), answered, "3.{asked}");
    }
    let asked = message(ProtocolVersion::V3_0, b"user\0a\0_pq_.fish\0x\0_pq_.bird\0\0\0");
    let negotiation = asked.negotiation().unwrap();
    assert_eq!(negotiation.version, ProtocolVersion::V3_0);
    assert_eq!(negotiation.unknown_options, ["_pq_.fish", "_pq_.bird"]);
    assert_eq!(asked.settings().count(), 0);
    let mut out = BytesMut::new();
    negotiation.encode(&mut out);
    assert_eq!(&out[..13], b"v\0\0\0\x20\0\x03\0\0\0\0\0\x02");
    assert_eq!(out.len(), 33);
    assert_eq!(Negotiation::parse(&out[5..]), Ok(negotiation));
}

#[test]
fn a_servers_negotiation_may_only_come_down_to_a_known_version() {
    let answer =
        |minor| Negotiation { version: ProtocolVersion { major: 3, minor }, unknown_options: vec![] };
    assert_eq!(answer(0).accept(ProtocolVersion::V3_2), Ok(ProtocolVersion::V3_0));
    assert_eq!(answer(2).accept(ProtocolVersion::V3_2), Ok(ProtocolVersion::V3_2));
    assert!(answer(1).accept(ProtocolVersion::V3_2).is_err());
    assert!(answer(3).accept(ProtocolVersion::V3_2).is_err());
    assert!(answer(2).accept(ProtocolVersion::V3_0).is_err());
    let foreign = Negotiation { unknown_options: vec!["_pq_.x".into()], ..answer(0) };
    assert!(foreign.accept(ProtocolVersion::V3_2).is_err());
}

#[test]
fn a_negotiation_that_counts_more_options_than_it_has_is_refused_at_once() {
    let lie = [0, 3, 0, 0, 0xff, 0xff, 0xff, 0xff, b'a', 0];
    assert_eq!(Negotiation::parse(&lie), Err(StartupError::Negotiation("cut short")));
}

#[test]
fn replication_takes_every_boolean_and_database() {
    let table = [
        ("true", Ok(Replication::Physical)),
        ("ON", Ok(Replication::Physical)),
        ("1", Ok(Replication::Physical)),
        ("y", Ok(Replication::Physical)),
        ("false", Ok(Replication::No)),
        ("of", Ok(Replication::No)),
        ("0", Ok(Replication::No)),
        ("database", Ok(Replication::Logical)),
        ("o", Err(StartupError::Replication("o".into()))),
        ("", Err(StartupError::Replication(String::new()))),
        ("Database", Err(StartupError::Replication("Database".into()))),
    ];
    for (value, expected) in table {
        let parameters = format!("user\0a\0replication\0{value}\0\0");
        assert_eq!(message(ProtocolVersion::V3_0, parameters.as_bytes()).replication(), expected, "{value}");
    }
}

#[test]
fn the_database_is_the_users_name_unless_given() {
    assert_eq!(message(ProtocolVersion::V3_0, b"user\0a\0\0").database(), "a");
    assert_eq!(message(ProtocolVersion::V3_0, b"user\0a\0database\0\0\0").database(), "a");
    assert_eq!(message(ProtocolVersion::V3_0, b"user\0a\0database\0b\0\0").database(), "b");
}

#[test]
fn options_are_split_as_postgresql_splits_them() {
    let table: &[(&str, &[(&str, &str)])] = &[
        ("", &[]),
        ("   ", &[]),
        ("-c geqo=off", &[("geqo", "off")]),
        ("-cgeqo=off", &[("geqo", "off")]),
        ("--search-path=a,b", &[("search_path", "a,b")]),
        ("  -c a=1\t--b=2 \n -c\ta=3", &[("a", "1"), ("b", "2"), ("a", "3")]),
        (r"-c search_path=my\ schema", &[("search_path", "my schema")]),
        (r"-c x=a\\b", &[("x", r"a\b")]),
        (r"-c x=a\", &[("x", "a")]),
        ("-c x=", &[("x", "")]),
        ("-c x=a=b", &[("x", "a=b")]),
        ("-c my-app.the-thing=é", &[("my_app.the_thing", "é")]),
    ];
    for (text, expected) in table {
        let got = parse_options(text).unwrap();
        let got: Vec<_> = got.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        assert_eq!(got, *expected, "{text}");
    }
    assert_eq!(parse_options("-c"), Err(StartupError::Switch("-c".into())));
    assert_eq!(parse_options("-d 5"), Err(StartupError::Switch("-d".into())));
    assert_eq!(parse_options("--"), Err(StartupError::Switch("--".into())));
    assert_eq!(parse_options("-c =x"), Err(StartupError::Switch("-c".into())));
    assert_eq!(parse_options("x=y"), Err(StartupError::Switch("x=y".into())));
    assert_eq!(parse_options("--geqo"), Err(StartupError::SwitchValue("geqo".into())));
}

#[test]
fn words_with_a_zero_byte_are_not_sent() {
    let mut out = BytesMut::new();
    let refused = encode_startup(ProtocolVersion::V3_0, [("user", "a\0b")], &mut out);
    assert_eq!(refused, Err(StartupError::Nul("user".into())));
    assert!(out.is_empty());
}

proptest! {
    #[test]
    fn no_bytes_make_a_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), minor in 0u16..5) {
        let _ = FirstPacket::parse(&bytes);
        let _ = startup(ProtocolVersion { major: 3, minor }, &bytes);
        let _ = Negotiation::parse(&bytes);
        let _ = parse_options(&String::from_utf8_lossy(&bytes));
        if let Some(first) = bytes.first_chunk::<8>() {
            let _ = Head::read(*first, 10_000);
        }
    }

    #[test]
    fn what_was_encoded_is_parsed(words in prop::collection::btree_map("[a-z_.]{1,9}", "[^\0]{0,9}", 0..9)) {
        let mut words = words;
        words.insert("user".into(), "someone".into());
        let mut out = BytesMut::new();
        let pairs = words.iter().map(|(n, v)| (n.as_str(), v.as_str()));
        encode_startup(ProtocolVersion::V3_2, pairs, &mut out).unwrap();
        let Ok(FirstPacket::Startup(message)) = FirstPacket::parse(&out[4..]) else { panic!("not parsed") };
        prop_assert_eq!(message.parameters, words.into_iter().collect::<Vec<_>>());
    }

    #[test]
    fn escaped_options_come_back_as_they_were(value in "[^\0]{0,20}") {
        let escaped: String = value.chars().flat_map(|c| ['\\', c]).collect();
        let got = parse_options(&format!("-c x={escaped}")).unwrap();
        prop_assert_eq!(got, vec![("x".to_owned(), value)]);
    }
}
