use hawser_wire::scram::{ClientBinding, ScramClient};
use proptest::prelude::*;

use super::*;
use crate::auth::hba;

const NONCE: [u8; NONCE_LEN] = [5; NONCE_LEN];
const END_POINT: &[u8] = &[9; 32];
const TLS: Transport<'static> = Transport::Tls { end_point: Some(END_POINT), certificate: Certificate::None };

fn rule(method: &str) -> Rule {
    let line = match method {
        "peer" => "local all all peer".to_owned(),
        other => format!("hostssl all all all {other}"),
    };
    hba::parse_rule(&line).unwrap()
}

fn request<'a>(rule: &'a Rule, secrets: &'a [Secret]) -> Request<'a> {
    Request {
        user: "anna",
        rule,
        map: None,
        secrets,
        transport: TLS,
        password_without_tls: false,
        mock: Mock { secret: b"process secret", md5_rule_asks: Md5RuleAsks::Scram },
        nonce: NONCE,
        md5_salt: [1, 2, 3, 4],
    }
}

fn password(text: &str) -> Secret {
    Secret::Password(Zeroizing::new(text.to_owned()))
}

fn proven_password(text: &str) -> Proven {
    Proven::Password(Zeroizing::new(text.to_owned()))
}

fn verifier(text: &str, salt: &[u8]) -> Secret {
    Secret::Scram(Verifier::from_password(text.as_bytes(), salt, 2).unwrap())
}

fn md5_hash(text: &str) -> Secret {
    Secret::Md5(md5::stored_hash(text.as_bytes(), "anna").to_string())
}

/// Begins with an empty cache.
fn start(request: &Request<'_>) -> Step {
    ClientLogin::start(request, &KeyCache::new(8))
}

fn asked(step: Step) -> (ClientLogin, Vec<u8>) {
    match step {
        Step::Ask { login, bytes } => (login, bytes),
        Step::Done { proven, .. } => panic!("done: {proven:?}"),
        Step::Refused(error) => panic!("refused: {error}"),
    }
}

/// The end of a login, without its bytes.
fn end(step: Step) -> Result<Proven, LoginError> {
    match step {
        Step::Done { bytes, proven } => {
            assert!(bytes.ends_with(b"R\0\0\0\x08\0\0\0\0"), "{bytes:?}");
            Ok(proven)
        }
        Step::Refused(error) => Err(error),
        Step::Ask { .. } => panic!("not the end"),
    }
}

fn initial(client: &ScramClient) -> Vec<u8> {
    let first = client.first_message();
    let length = u32::try_from(first.len()).unwrap().to_be_bytes();
    [client.mechanism().name().as_bytes(), &[0], &length, &first].concat()
}

/// Plays a SCRAM client with this password; also yields what we said first.
fn scram_login(
    request: &Request<'_>,
    password: &str,
    binding: ClientBinding,
) -> (Vec<u8>, Result<Proven, LoginError>) {
    let (login, offer) = asked(start(request));
    let client = ScramClient::new(binding, [6; NONCE_LEN]);
    let (login, bytes) = match login.on_message(&initial(&client)) {
        Step::Ask { login, bytes } => (login, bytes),
        other => return (offer, end(other)),
    };
    assert_eq!(
        &bytes[..9],
        [b"R", &u32::try_from(bytes.len() - 1).unwrap().to_be_bytes()[..], &[0, 0, 0, 11]].concat()
    );
    let challenge = client.challenge(&bytes[9..]).unwrap();
    let keys =
        ScramKeys::from_password(password.as_bytes(), challenge.salt(), challenge.iterations()).unwrap();
    let (last, signature) = challenge.answer(&keys);
    let step = login.on_message(&last);
    if let Step::Done { bytes, .. } = &step {
        let end = bytes.len() - 9;
        assert_eq!(&bytes[5..9], [0, 0, 0, 12]);
        signature.verify(&bytes[9..end]).unwrap();
    }
    (offer, end(step))
}

fn scram_result(method: &str, secrets: &[Secret], password: &str) -> Result<Proven, LoginError> {
    scram_login(&request(&rule(method), secrets), password, ClientBinding::EndPoint(END_POINT.to_vec())).1
}

fn failed_with(cause: Cause) -> Result<Proven, LoginError> {
    Err(failed("anna", cause))
}

fn password_login(request: &Request<'_>, answer: &[u8]) -> Result<Proven, LoginError> {
    let (login, bytes) = asked(start(request));
    assert_eq!(bytes, b"R\0\0\0\x08\0\0\0\x03");
    end(login.on_message(answer))
}

fn md5_login(request: &Request<'_>, password: &str) -> Result<Proven, LoginError> {
    let (login, bytes) = asked(start(request));
    assert_eq!(bytes, b"R\0\0\0\x0c\0\0\0\x05\x01\x02\x03\x04");
    let stored = md5::stored_hash(password.as_bytes(), "anna");
    let answer = md5::response(&stored, [1, 2, 3, 4]).unwrap();
    end(login.on_message(&[answer.as_bytes(), &[0]].concat()))
}

#[test]
fn a_password_is_proven_by_scram_and_handed_on() {
    let secrets = [password("secret")];
    assert_eq!(scram_result("scram-sha-256", &secrets, "secret"), Ok(proven_password("secret")));
    assert_eq!(scram_result("scram-sha-256", &secrets, "other"), failed_with(Cause::Mismatch));
}

#[test]
fn a_verifier_yields_the_keys_that_log_in_to_a_server_with_the_same_verifier() {
    let proven = scram_result("scram-sha-256", &[verifier("secret", b"salt")], "secret");
    let keys = ScramKeys::from_password(b"secret", b"salt", 2).unwrap();
    assert_eq!(proven, Ok(Proven::ScramKeys(keys)));
}

#[test]
fn any_of_several_passwords_will_do_beside_a_verifier() {
    let secrets = [password("new"), verifier("old", b"salt"), password("older"), verifier("lost", b"other")];
    assert_eq!(scram_result("scram-sha-256", &secrets, "new"), Ok(proven_password("new")));
    assert_eq!(scram_result("scram-sha-256", &secrets, "older"), Ok(proven_password("older")));
    assert!(matches!(scram_result("scram-sha-256", &secrets, "old"), Ok(Proven::ScramKeys(_))));
    // One salt can be told only.
    assert_eq!(scram_result("scram-sha-256", &secrets, "lost"), failed_with(Cause::Mismatch));
}

#[test]
fn unknown_users_and_users_without_a_usable_secret_fail_at_the_end_with_the_same_words() {
    for secrets in [&[][..], &[md5_hash("x")], &[password("")]] {
        let rule = rule("scram-sha-256");
        let (offer, got) = scram_login(&request(&rule, secrets), "x", ClientBinding::Cannot);
        let (real_offer, wrong) =
            scram_login(&request(&rule, &[password("secret")]), "x", ClientBinding::Cannot);
        assert_eq!(got, failed_with(Cause::NoSecret));
        assert_eq!(wrong, failed_with(Cause::Mismatch));
        assert_eq!(offer, real_offer);
        assert_eq!(got.unwrap_err().to_string(), wrong.unwrap_err().to_string());
    }
}

#[test]
fn a_known_user_and_an_unknown_one_are_told_salts_of_one_kind_that_stay() {
    let rule = rule("scram-sha-256");
    let client = ScramClient::new(ClientBinding::Cannot, [6; NONCE_LEN]);
    let told = |secrets: &[Secret]| {
        let (login, _) = asked(start(&request(&rule, secrets)));
        asked(login.on_message(&initial(&client))).1
    };
    assert_eq!(told(&[]), told(&[]));
    assert_eq!(told(&[password("x")]), told(&[]));
}

#[test]
fn plus_is_offered_under_tls_and_demanded_by_its_rule() {
    let plain = b"SCRAM-SHA-256\0\0";
    let both = b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0";
    let secrets = [password("secret")];
    let scram_rule = rule("scram-sha-256");
    let tls = request(&scram_rule, &secrets);
    let (offer, got) = scram_login(&tls, "secret", ClientBinding::Cannot);
    assert_eq!((&offer[9..], got.is_ok()), (&both[..], true));
    for transport in [
        Transport::Tcp,
        Transport::Unix { peer_user: None },
        Transport::Tls { end_point: None, certificate: Certificate::None },
    ] {
        let (offer, got) = scram_login(&Request { transport, ..tls }, "secret", ClientBinding::Cannot);
        assert_eq!((&offer[9..], got.is_ok()), (&plain[..], true), "{transport:?}");
    }
    let plus_rule = rule("scram-sha-256-plus");
    let plus = request(&plus_rule, &secrets);
    let (offer, got) = scram_login(&plus, "secret", ClientBinding::Cannot);
    assert_eq!(&offer[9..], b"SCRAM-SHA-256-PLUS\0\0");
    assert_eq!(got, Err(LoginError::Scram(ScramError::Mechanism)));
    assert!(scram_login(&plus, "secret", ClientBinding::EndPoint(END_POINT.to_vec())).1.is_ok());
    let refused = end(start(&Request { transport: Transport::Tcp, ..plus }));
    assert_eq!(refused, Err(LoginError::NeedsChannelBinding));
}

#[test]
fn a_client_that_was_told_of_no_plus_is_refused() {
    let secrets = [password("secret")];
    let rule = rule("scram-sha-256");
    let (_, got) = scram_login(&request(&rule, &secrets), "secret", ClientBinding::NotOffered);
    assert_eq!(got, Err(LoginError::Scram(ScramError::Downgrade)));
}

#[test]
fn an_md5_rule_asks_for_md5_or_for_scram_as_the_secret_needs() {
    let rule = rule("md5");
    let plain = [password("secret")];
    assert_eq!(md5_login(&request(&rule, &plain), "secret"), Ok(proven_password("secret")));
    assert_eq!(md5_login(&request(&rule, &plain), "other"), failed_with(Cause::Mismatch));
    let hash = [md5_hash("secret"), md5_hash("second")];
    let stored = |text| Proven::Md5Hash(md5::stored_hash(text, "anna"));
    assert_eq!(md5_login(&request(&rule, &hash), "secret"), Ok(stored(b"secret")));
    assert_eq!(md5_login(&request(&rule, &hash), "second"), Ok(stored(b"second")));
    assert!(matches!(
        scram_result("md5", &[verifier("secret", b"salt")], "secret"),
        Ok(Proven::ScramKeys(_))
    ));
    assert_eq!(scram_result("md5", &[], "secret"), failed_with(Cause::NoSecret));
    let mut mock_md5 = request(&rule, &[]);
    mock_md5.mock.md5_rule_asks = Md5RuleAsks::Md5;
    assert_eq!(md5_login(&mock_md5, "process secret"), failed_with(Cause::NoSecret));
}

#[test]
fn a_password_in_the_clear_is_held_against_every_kind_of_secret() {
    let rule = rule("password");
    let all = [password("one"), md5_hash("two"), verifier("three", b"salt"), verifier("four", b"other")];
    for text in ["one", "two", "three", "four"] {
        let answer = format!("{text}\0");
        assert_eq!(password_login(&request(&rule, &all), answer.as_bytes()), Ok(proven_password(text)));
    }
    assert_eq!(password_login(&request(&rule, &all), b"five\0"), failed_with(Cause::Mismatch));
    assert_eq!(password_login(&request(&rule, &[]), b"one\0"), failed_with(Cause::NoSecret));
    assert_eq!(password_login(&request(&rule, &[password("")]), b"\0"), Err(LoginError::EmptyPassword));
    for malformed in [&b""[..], b"one", b"one\0two\0", b"one\0\0"] {
        assert_eq!(password_login(&request(&rule, &all), malformed), Err(LoginError::Malformed));
    }
    let long = vec![b'x'; MAX_LOGIN_MESSAGE + 1];
    assert_eq!(password_login(&request(&rule, &all), &long), Err(LoginError::Malformed));
}

#[test]
fn a_password_in_the_clear_needs_tls_a_unix_socket_or_the_operators_word() {
    let rule = rule("password");
    let secrets = [password("one")];
    let tcp = Request { transport: Transport::Tcp, ..request(&rule, &secrets) };
    assert_eq!(end(start(&tcp)), Err(LoginError::NeedsTls));
    assert!(password_login(&Request { password_without_tls: true, ..tcp }, b"one\0").is_ok());
    let unix = Request { transport: Transport::Unix { peer_user: None }, ..tcp };
    assert!(password_login(&unix, b"one\0").is_ok());
}

#[test]
fn trust_lets_in_and_reject_does_not() {
    let (trust, reject) = (rule("trust"), rule("reject"));
    assert_eq!(end(start(&request(&trust, &[]))), Ok(Proven::Nothing));
    let refused = end(start(&request(&reject, &[password("x")])));
    assert_eq!(refused, Err(LoginError::Rejected));
    assert_eq!(LoginError::Rejected.sqlstate(), "28000");
}

#[test]
fn a_certificate_must_be_there_and_name_the_user() {
    let shown =
        |common_name| Transport::Tls { end_point: None, certificate: Certificate::Verified { common_name } };
    let map = [Mapping::parse("client", "anna").unwrap()];
    let table: &[(&str, Transport<'_>, bool, Result<(), LoginError>)] = &[
        ("cert", shown(Some("anna")), false, Ok(())),
        ("cert", shown(Some("bob")), false, Err(LoginError::CertificateName("anna".into()))),
        ("cert", shown(None), false, Err(LoginError::CertificateName("anna".into()))),
        ("cert", shown(Some("client")), true, Ok(())),
        ("cert", shown(Some("anna")), true, Err(LoginError::CertificateName("anna".into()))),
        ("cert", TLS, false, Err(LoginError::NoCertificate)),
        ("cert", Transport::Tcp, false, Err(LoginError::NoCertificate)),
        ("trust clientcert=verify-ca", shown(Some("bob")), false, Ok(())),
        ("trust clientcert=verify-ca", TLS, false, Err(LoginError::NoCertificate)),
        ("trust clientcert=verify-full", shown(Some("anna")), false, Ok(())),
        (
            "trust clientcert=verify-full",
            shown(Some("bob")),
            false,
            Err(LoginError::CertificateName("anna".into())),
        ),
    ];
    for (method, transport, mapped, expected) in table {
        let rule = rule(method);
        let map = mapped.then_some(&map[..]);
        let request = Request { transport: *transport, map, ..request(&rule, &[]) };
        assert_eq!(&end(start(&request)).map(|_| ()), expected, "{method} {transport:?} {mapped}");
    }
}

#[test]
fn peer_asks_who_runs_the_other_end() {
    let rule = rule("peer");
    let map = [Mapping::parse("root", "all").unwrap()];
    let with = |transport, map| end(start(&Request { transport, map, ..request(&rule, &[]) }));
    let unix = |peer_user| Transport::Unix { peer_user };
    let refused = Err(LoginError::PeerName("anna".into()));
    assert_eq!(with(unix(Some("anna")), None), Ok(Proven::Nothing));
    assert_eq!(with(unix(Some("root")), None), refused);
    assert_eq!(with(unix(Some("root")), Some(&map)), Ok(Proven::Nothing));
    assert_eq!(with(unix(None), Some(&map)), refused);
    assert_eq!(with(TLS, None), refused);
}

#[test]
fn pbkdf2_is_run_once_for_a_password() {
    let rule = rule("scram-sha-256");
    let secrets = [password("secret")];
    let cache = KeyCache::new(8);
    for _ in 0..3 {
        let _ = ClientLogin::start(&request(&rule, &secrets), &cache);
        assert_eq!(cache.known(), 1);
    }
}

#[test]
fn what_was_proven_does_not_show_in_debug() {
    assert_eq!(format!("{:?}", proven_password("swordfish")), "Password(hidden)");
}

proptest! {
    #[test]
    fn no_bytes_log_in_or_make_it_panic(bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 3)) {
        for method in ["scram-sha-256", "scram-sha-256-plus", "md5", "password"] {
            let rule = rule(method);
            let secrets = [verifier("secret", b"salt"), md5_hash("secret")];
            let mut step = start(&request(&rule, &secrets[usize::from(method == "md5")..]));
            for body in &bodies {
                step = match step {
                    Step::Ask { login, .. } => login.on_message(body),
                    other => other,
                };
            }
            let done = matches!(step, Step::Done { .. });
            prop_assert!(!done);
        }
    }
}
