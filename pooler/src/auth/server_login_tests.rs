use hawser_wire::scram::{ScramServer, Verifier, parse_initial_response};
use proptest::prelude::*;

use super::*;

const NONCE: [u8; NONCE_LEN] = [5; NONCE_LEN];
const BOTH: &[u8] = b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0";
const PLAIN: &[u8] = b"SCRAM-SHA-256\0\0";

fn password() -> Credential {
    Credential::Password(Zeroizing::new("secret".into()))
}

fn tls(end_point: Option<&[u8]>) -> ServerTransport {
    ServerTransport::Tls { end_point: end_point.map(<[u8]>::to_vec) }
}

fn login(credential: Credential, transport: ServerTransport) -> ServerLogin {
    ServerLogin::new("anna", &credential, transport, false, NONCE)
}

fn body(code: u32, data: &[u8]) -> Vec<u8> {
    [&code.to_be_bytes(), data].concat()
}

fn step(login: &mut ServerLogin, code: u32, data: &[u8]) -> Result<ServerStep, ServerLoginError> {
    login.on_authentication(&body(code, data), &KeyCache::new(8))
}

/// The body of a `p` message that is to be sent.
fn sent(answer: Result<ServerStep, ServerLoginError>) -> Vec<u8> {
    let Ok(ServerStep::Reply(body)) = answer else { panic!("nothing sent: {answer:?}") };
    body
}

/// Plays a server with this verifier to the end.
fn scram(
    login: &mut ServerLogin,
    offer: &[u8],
    verifier: Verifier,
    end_point: Option<&[u8]>,
) -> Result<(Mechanism, ServerStep), ServerLoginError> {
    let first = sent(step(login, 10, offer));
    let (name, data) = parse_initial_response(&first).unwrap();
    let mechanism = Mechanism::from_name(name).unwrap();
    let server = ScramServer::new(verifier, vec![], end_point.map(<[u8]>::to_vec), [7; NONCE_LEN]);
    let (server_first, next) = server.challenge(mechanism, data)?;
    let last = sent(step(login, 11, &server_first));
    let proof = next.verify(&last)?;
    assert_eq!(step(login, 12, &proof.server_final), Ok(ServerStep::Wait));
    Ok((mechanism, step(login, 0, b"")?))
}

fn verifier(password: &str) -> Verifier {
    Verifier::from_password(password.as_bytes(), b"salt", 2).unwrap()
}

#[test]
fn a_server_that_trusts_us_lets_us_in() {
    let mut login = login(Credential::None, ServerTransport::Tcp);
    assert!(!login.is_done());
    assert_eq!(step(&mut login, 0, b""), Ok(ServerStep::Done));
    assert!(login.is_done());
}

#[test]
fn a_password_and_scram_keys_log_in_by_scram() {
    let keys = Credential::ScramKeys(ScramKeys::from_password(b"secret", b"salt", 2).unwrap());
    for credential in [password(), keys] {
        let got =
            scram(&mut login(credential.clone(), ServerTransport::Tcp), PLAIN, verifier("secret"), None);
        assert_eq!(got, Ok((Mechanism::Scram, ServerStep::Done)));
        let wrong = scram(&mut login(credential, ServerTransport::Tcp), PLAIN, verifier("other"), None);
        assert_eq!(wrong, Err(ServerLoginError::Scram(ScramError::WrongProof)));
    }
}

#[test]
fn plus_is_preferred_where_both_sides_have_it() {
    let hash: &[u8] = &[9; 32];
    let run = |transport, offer, end_point| {
        scram(&mut login(password(), transport), offer, verifier("secret"), end_point)
    };
    assert_eq!(run(tls(Some(hash)), BOTH, Some(hash)), Ok((Mechanism::ScramPlus, ServerStep::Done)));
    assert_eq!(run(tls(Some(hash)), PLAIN, None), Ok((Mechanism::Scram, ServerStep::Done)));
    assert_eq!(run(tls(None), BOTH, Some(hash)), Ok((Mechanism::Scram, ServerStep::Done)));
    assert_eq!(run(ServerTransport::Tcp, BOTH, None), Ok((Mechanism::Scram, ServerStep::Done)));
}

#[test]
fn an_offer_without_plus_on_its_way_from_a_server_with_plus_is_noticed_by_it() {
    let hash: &[u8] = &[9; 32];
    let got = scram(&mut login(password(), tls(Some(hash))), PLAIN, verifier("secret"), Some(hash));
    assert_eq!(got, Err(ServerLoginError::Scram(ScramError::Downgrade)));
}

#[test]
fn a_server_must_prove_itself_before_it_lets_us_in() {
    let mut early = login(password(), ServerTransport::Tcp);
    sent(step(&mut early, 10, PLAIN));
    assert_eq!(step(&mut early, 0, b""), Err(ServerLoginError::Unproven));

    let mut late = login(password(), ServerTransport::Tcp);
    let first = sent(step(&mut late, 10, PLAIN));
    let server = ScramServer::new(verifier("secret"), vec![], None, [7; NONCE_LEN]);
    let data = parse_initial_response(&first).unwrap().1;
    let (server_first, _) = server.challenge(Mechanism::Scram, data).unwrap();
    sent(step(&mut late, 11, &server_first));
    assert_eq!(step(&mut late, 0, b""), Err(ServerLoginError::Unproven));
}

#[test]
fn md5_is_answered_from_a_password_or_a_hash() {
    let hash = Credential::Md5Hash(md5::stored_hash(b"secret", "anna"));
    let expected = md5::response(&md5::stored_hash(b"secret", "anna"), [1, 2, 3, 4]).unwrap();
    for credential in [password(), hash] {
        let mut login = login(credential, ServerTransport::Tcp);
        assert_eq!(sent(step(&mut login, 5, &[1, 2, 3, 4])), [expected.as_bytes(), &[0]].concat());
        assert_eq!(step(&mut login, 0, b""), Ok(ServerStep::Done));
    }
    let short = step(&mut login(password(), ServerTransport::Tcp), 5, &[1, 2, 3]);
    assert_eq!(short, Err(ServerLoginError::Malformed));
}

#[test]
fn a_password_goes_in_the_clear_only_where_nobody_can_listen_or_it_is_allowed() {
    for transport in [tls(None), ServerTransport::Unix] {
        assert_eq!(sent(step(&mut login(password(), transport), 3, b"")), b"secret\0");
    }
    let refused = step(&mut login(password(), ServerTransport::Tcp), 3, b"");
    assert_eq!(refused, Err(ServerLoginError::ClearText));
    let mut allowed = ServerLogin::new("anna", &password(), ServerTransport::Tcp, true, NONCE);
    assert_eq!(sent(step(&mut allowed, 3, b"")), b"secret\0");
}

#[test]
fn what_a_secret_cannot_answer_is_said_in_words() {
    let keys = || Credential::ScramKeys(ScramKeys::from_password(b"secret", b"salt", 2).unwrap());
    let hash = || Credential::Md5Hash(md5::stored_hash(b"secret", "anna"));
    let table: [(Credential, u32, &[u8], &str); 6] = [
        (keys(), 3, b"", "server asks for a password from user \"anna\", but there is only SCRAM keys"),
        (
            keys(),
            5,
            b"1234",
            "server asks for an md5 password from user \"anna\", but there is only SCRAM keys",
        ),
        (hash(), 10, PLAIN, "server asks for SCRAM from user \"anna\", but there is only an md5 hash"),
        (
            Credential::None,
            10,
            PLAIN,
            "server asks for SCRAM from user \"anna\", but there is only no secret",
        ),
        (
            Credential::None,
            5,
            b"1234",
            "server asks for an md5 password from user \"anna\", but there is only no secret",
        ),
        (password(), 7, b"", "server asks for an unsupported authentication method (GSSAPI)"),
    ];
    for (credential, code, data, expected) in table {
        let got = step(&mut login(credential, tls(None)), code, data).unwrap_err();
        assert_eq!(got.to_string(), expected);
    }
    let unknown = step(&mut login(password(), tls(None)), 10, b"OAUTHBEARER\0\0");
    assert_eq!(unknown, Err(ServerLoginError::Mechanism));
    let plus_only = step(&mut login(password(), ServerTransport::Tcp), 10, b"SCRAM-SHA-256-PLUS\0\0");
    assert_eq!(plus_only, Err(ServerLoginError::Mechanism));
}

#[test]
fn messages_out_of_turn_are_refused_and_end_the_exchange() {
    for code in [11, 12, 99] {
        let mut login = login(password(), ServerTransport::Tcp);
        assert_eq!(step(&mut login, code, b"x"), Err(ServerLoginError::Unexpected));
        assert_eq!(step(&mut login, 0, b""), Err(ServerLoginError::Unexpected));
    }
    let mut twice = login(password(), tls(None));
    sent(step(&mut twice, 3, b""));
    assert_eq!(step(&mut twice, 3, b""), Err(ServerLoginError::Unexpected));
}

#[test]
fn pbkdf2_is_run_once_for_a_password_and_salt() {
    let cache = KeyCache::new(8);
    for _ in 0..3 {
        let mut login = login(password(), ServerTransport::Tcp);
        let first = sent(login.on_authentication(&body(10, PLAIN), &cache));
        let server = ScramServer::new(verifier("secret"), vec![], None, [7; NONCE_LEN]);
        let data = parse_initial_response(&first).unwrap().1;
        let (server_first, _) = server.challenge(Mechanism::Scram, data).unwrap();
        sent(login.on_authentication(&body(11, &server_first), &cache));
        assert_eq!(cache.known(), 1);
    }
}

#[test]
fn the_secret_does_not_show_in_debug() {
    assert_eq!(format!("{:?}", password()), "Credential(a password)");
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(
        bodies in prop::collection::vec((0u32..14, prop::collection::vec(any::<u8>(), 0..60)), 4),
        raw in prop::collection::vec(any::<u8>(), 0..8),
    ) {
        let cache = KeyCache::new(8);
        let mut login = login(password(), tls(Some(&[9; 32])));
        for (code, data) in bodies {
            let _ = login.on_authentication(&body(code, &data), &cache);
        }
        let _ = login.on_authentication(&raw, &cache);
    }
}
