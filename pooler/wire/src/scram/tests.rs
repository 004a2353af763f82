use proptest::prelude::*;

use super::*;

const SALT: &[u8] = b"sixteen bytes...";
const CLIENT_NONCE: [u8; NONCE_LEN] = [1; NONCE_LEN];
const SERVER_NONCE: [u8; NONCE_LEN] = [2; NONCE_LEN];
const FEW: u32 = 3;

fn verifier(password: &str) -> Verifier {
    Verifier::from_password(password.as_bytes(), SALT, FEW).unwrap()
}

fn keys(password: &str) -> ScramKeys {
    ScramKeys::from_password(password.as_bytes(), SALT, FEW).unwrap()
}

/// A whole exchange; the error is that of whoever noticed first.
fn exchange(server: ScramServer, keys: &ScramKeys, binding: ClientBinding) -> Result<Proof, ScramError> {
    let client = ScramClient::new(binding, CLIENT_NONCE);
    let (first, next) = server.challenge(client.mechanism(), &client.first_message())?;
    let (last, signature) = client.challenge(&first)?.answer(keys);
    let proof = next.verify(&last)?;
    signature.verify(&proof.server_final)?;
    Ok(proof)
}

fn server(password: &str, end_point: Option<Vec<u8>>) -> ScramServer {
    ScramServer::new(verifier(password), vec![], end_point, SERVER_NONCE)
}

#[test]
fn the_keys_of_rfc_7677_come_out() {
    // RFC 7677, section 3.
    let salt = BASE64.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
    let keys = ScramKeys::from_password(b"pencil", &salt, 4096).unwrap();
    let verifier = keys.verifier(&salt, 4096);
    let message = "n=user,r=rOprNGfwEbeRWgbNEkqO,\
        r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,\
        c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
    let proof = xor(&keys.client_key, &hmac(&verifier.stored_key, &[message.as_bytes()]));
    assert_eq!(BASE64.encode(proof), "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=");
    let signature = hmac(&keys.server_key, &[message.as_bytes()]);
    assert_eq!(BASE64.encode(signature), "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
}

#[test]
fn the_exchange_of_rfc_7677_passes_through_the_server() {
    let salt = BASE64.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
    let next = started(
        "n=user,r=rOprNGfwEbeRWgbNEkqO",
        "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
    )
    .with_verifier(Verifier::from_password(b"pencil", &salt, 4096).unwrap());
    let proof = next
        .verify(
            b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
              p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
        )
        .unwrap();
    assert_eq!(proof.server_final, b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
}

/// A server after its first message; the nonce is what the message says.
fn started(client_first_bare: &str, server_first: &str) -> ScramFinal {
    let server = ScramServer::new(verifier("x"), vec![], None, SERVER_NONCE);
    let first = format!("n,,{client_first_bare}");
    let (_, next) = server.challenge(Mechanism::Scram, first.as_bytes()).unwrap();
    next.replayed(server_first)
}

#[test]
fn a_verifier_is_written_as_postgresql_writes_it_and_read_back() {
    let text = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==\
        $WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";
    let parsed: Verifier = text.parse().unwrap();
    assert_eq!(parsed.to_string(), text);
    assert_eq!(parsed, Verifier::from_password(b"pencil", &parsed.salt, 4096).unwrap());
    assert!(parsed.fits(b"pencil"));
    assert!(!parsed.fits(b"pencils"));
}

#[test]
fn texts_that_are_no_verifiers_are_refused() {
    let good = verifier("x").to_string();
    let (head, tail) = good.rsplit_once('$').unwrap();
    let (stored, key) = tail.split_once(':').unwrap();
    for bad in [
        String::new(),
        "SCRAM-SHA-256$".into(),
        good.replace("SHA-256", "SHA-1"),
        good.replace("$3:", "$0:"),
        good.replace("$3:", "$-3:"),
        good.replace("$3:", "$+3:"),
        good.replace("$3:", "$2147483648:"),
        good.replace("$3:", "$99999999999999999999:"),
        format!("SCRAM-SHA-256$3:${stored}:{key}"),
        format!("{head}${stored}:"),
        format!("{head}${stored}"),
        format!("{head}${stored}:{key}x"),
        format!("{head}$!{stored}:{key}"),
    ] {
        assert_eq!(bad.parse::<Verifier>(), Err(VerifierError), "{bad}");
    }
}

#[test]
fn secrets_do_not_show_in_debug() {
    assert_eq!(format!("{:?}", verifier("x")), "Verifier(hidden)");
    assert_eq!(format!("{:?}", keys("x")), "ScramKeys(hidden)");
}

#[test]
fn passwords_are_prepared_as_postgresql_prepares_them() {
    let same = |one: &[u8], other: &[u8]| {
        let [one, other] = [one, other].map(|password| ScramKeys::from_password(password, SALT, 1).unwrap());
        one == other
    };
    // The soft hyphen maps to nothing, the Roman numeral to its letters, a wide space to a space.
    assert!(same("I\u{ad}X".as_bytes(), b"IX"));
    assert!(same("\u{2168}".as_bytes(), b"IX"));
    assert!(same("a\u{a0}b".as_bytes(), b"a b"));
    assert!(!same(b"USER", b"user"));
    // What SASLprep refuses or empties is taken as it stands.
    assert!(!same(b"\xff\xfe", b"\xff"));
    assert!(!same("\u{ad}".as_bytes(), b""));
    assert!(!same("\u{627}1".as_bytes(), "\u{627}2".as_bytes()));
    assert!(!same(b"a\x07b", b"ab"));
}

#[test]
fn long_passwords_are_hashed_before_they_become_a_key() {
    // RFC 4231, test case 6: a key longer than a block.
    let mac = hmac(&[0xaa; 131], &[b"Test Using Larger Than Block-Size Key - Hash Key First"]);
    assert_eq!(BASE64.encode(mac), "YOQxWR7gtn8Niiaqy/W3f44LxiE3KMUUBUYEDw7jf1Q=");
}

#[test]
fn the_right_password_logs_in_and_the_wrong_one_does_not() {
    let proof = exchange(server("secret", None), &keys("secret"), ClientBinding::Cannot).unwrap();
    assert_eq!(proof.keys, keys("secret"));
    let refused = exchange(server("secret", None), &keys("Secret"), ClientBinding::Cannot);
    assert_eq!(refused, Err(ScramError::WrongProof));
}

#[test]
fn the_keys_of_a_proof_log_in_to_another_server_with_the_same_verifier() {
    let proof = exchange(server("secret", None), &keys("secret"), ClientBinding::Cannot).unwrap();
    let second = ScramServer::new(verifier("secret"), vec![], Some(vec![9; 32]), [7; NONCE_LEN]);
    assert!(exchange(second, &proof.keys, ClientBinding::EndPoint(vec![9; 32])).is_ok());
    let elsewhere = Verifier::from_password(b"secret", b"another salt", FEW).unwrap();
    let third = ScramServer::new(elsewhere, vec![], None, [7; NONCE_LEN]);
    assert_eq!(exchange(third, &proof.keys, ClientBinding::Cannot), Err(ScramError::WrongProof));
}

#[test]
fn any_of_several_verifiers_with_one_salt_will_do() {
    for (index, password) in ["new", "old", "older"].into_iter().enumerate() {
        let server =
            ScramServer::new(verifier("new"), vec![verifier("old"), verifier("older")], None, SERVER_NONCE);
        let proof = exchange(server, &keys(password), ClientBinding::Cannot).unwrap();
        assert_eq!(proof.verifier, index);
        assert_eq!(proof.keys, keys(password));
    }
}

#[test]
fn channel_binding_works_and_notices_another_certificate() {
    let bound = |hash: u8| ClientBinding::EndPoint(vec![hash; 32]);
    let plus = || server("secret", Some(vec![9; 32]));
    assert!(exchange(plus(), &keys("secret"), bound(9)).is_ok());
    assert_eq!(exchange(plus(), &keys("secret"), bound(8)), Err(ScramError::BindingMismatch));
    assert!(exchange(plus(), &keys("secret"), ClientBinding::Cannot).is_ok());
    assert!(exchange(server("secret", None), &keys("secret"), ClientBinding::NotOffered).is_ok());
}

#[test]
fn a_changed_offer_is_noticed() {
    let got = exchange(server("secret", Some(vec![9; 32])), &keys("secret"), ClientBinding::NotOffered);
    assert_eq!(got, Err(ScramError::Downgrade));
}

#[test]
fn first_messages_that_do_not_fit_are_refused() {
    use Mechanism::{Scram, ScramPlus};
    let table: &[(Mechanism, bool, &str, ScramError)] = &[
        (ScramPlus, false, "p=tls-server-end-point,,n=,r=abc", ScramError::Mechanism),
        (ScramPlus, true, "n,,n=,r=abc", ScramError::BindingFlag),
        (ScramPlus, true, "y,,n=,r=abc", ScramError::BindingFlag),
        (Scram, true, "p=tls-server-end-point,,n=,r=abc", ScramError::BindingFlag),
        (ScramPlus, true, "p=tls-unique,,n=,r=abc", ScramError::BindingType),
        (Scram, false, "n,a=boss,n=,r=abc", ScramError::AuthorizationIdentity),
        (Scram, false, "n,,m=x,n=,r=abc", ScramError::Extension),
        (Scram, false, "", ScramError::Malformed("GS2 header")),
        (Scram, false, "x,,n=,r=abc", ScramError::Malformed("GS2 header")),
        (Scram, false, "n,,", ScramError::Malformed("no user name")),
        (Scram, false, "n,,n=", ScramError::Malformed("no client nonce")),
        (Scram, false, "n,,n=,r=", ScramError::Malformed("non-printable characters in nonce")),
        (Scram, false, "n,,n=,r=a b", ScramError::Malformed("non-printable characters in nonce")),
    ];
    for (mechanism, tls, first, expected) in table {
        let server = server("secret", tls.then(|| vec![9; 32]));
        let got = server.challenge(*mechanism, first.as_bytes()).map(|_| ());
        assert_eq!(got, Err(*expected), "{first}");
    }
    let long = format!("n,,n=,r={}", "x".repeat(MAX_NONCE + 1));
    let got = server("secret", None).challenge(Mechanism::Scram, long.as_bytes()).map(|_| ());
    assert_eq!(got, Err(ScramError::TooLong));
    let long = vec![b'n'; MAX_MESSAGE + 1];
    assert!(matches!(server("x", None).challenge(Mechanism::Scram, &long), Err(ScramError::TooLong)));
}

#[test]
fn last_messages_that_do_not_fit_are_refused() {
    let client = ScramClient::new(ClientBinding::Cannot, CLIENT_NONCE);
    let first = client.first_message();
    let begin = || server("secret", None).challenge(Mechanism::Scram, &first).unwrap();
    let (challenge, _) = begin();
    let (last, _) = client.challenge(&challenge).unwrap().answer(&keys("secret"));
    let last = String::from_utf8(last).unwrap();
    assert!(begin().1.verify(last.as_bytes()).is_ok());
    let (without_proof, proof) = last.rsplit_once(",p=").unwrap();
    let table = [
        (String::new(), ScramError::Malformed("no proof")),
        (without_proof.to_owned(), ScramError::Malformed("no proof")),
        (format!("{without_proof},p="), ScramError::Malformed("proof")),
        (format!("{without_proof},p=AAAA"), ScramError::Malformed("proof")),
        (format!("{without_proof},p={proof}{proof}"), ScramError::Malformed("proof")),
        (format!("{last},x=y"), ScramError::Malformed("no proof")),
        (last.replace("c=biws", "c=eSws"), ScramError::BindingMismatch),
        (last.replace("c=biws,", ""), ScramError::Malformed("no channel binding")),
        (last.replace("r=", "r=x"), ScramError::Nonce),
        (last.replace(",p=", ",z=1,p="), ScramError::WrongProof),
    ];
    for (message, expected) in table {
        assert_eq!(begin().1.verify(message.as_bytes()), Err(expected), "{message}");
    }
}

#[test]
fn servers_that_ask_for_too_much_are_refused() {
    let nonce = BASE64.encode(CLIENT_NONCE);
    let table = [
        (format!("r={nonce}x,s=AAAA,i=0"), ScramError::Iterations(0)),
        (format!("r={nonce}x,s=AAAA,i=1000001"), ScramError::Iterations(1_000_001)),
        (format!("r={nonce}x,s=AAAA,i=4294967296"), ScramError::Malformed("iteration count")),
        (format!("r={nonce}x,s=AAAA,i=-1"), ScramError::Malformed("iteration count")),
        (format!("r={nonce}x,s=AAAA,i="), ScramError::Malformed("iteration count")),
        (format!("r={nonce}x,s=AAAA"), ScramError::Malformed("no iteration count")),
        (format!("r={nonce}x,s=,i=1"), ScramError::Malformed("salt")),
        (format!("r={nonce}x,s=!,i=1"), ScramError::Malformed("salt")),
        (format!("r={nonce},s=AAAA,i=1"), ScramError::Nonce),
        ("r=other,s=AAAA,i=1".into(), ScramError::Nonce),
        ("m=x,r=other,s=AAAA,i=1".into(), ScramError::Extension),
        ("e=other-error".into(), ScramError::Malformed("no server nonce")),
        ("x".repeat(MAX_MESSAGE + 1), ScramError::TooLong),
    ];
    for (first, expected) in table {
        let got = ScramClient::new(ClientBinding::Cannot, CLIENT_NONCE).challenge(first.as_bytes());
        assert_eq!(got.map(|_| ()), Err(expected), "{first}");
    }
}

#[test]
fn a_server_that_does_not_know_the_verifier_is_noticed() {
    let signature = |server_final: &[u8]| {
        let client = ScramClient::new(ClientBinding::Cannot, CLIENT_NONCE);
        let first = format!("r={}x,s=AAAA,i=1", BASE64.encode(CLIENT_NONCE));
        client.challenge(first.as_bytes()).unwrap().answer(&keys("secret")).1.verify(server_final)
    };
    let foreign = format!("v={}", BASE64.encode([0; 32]));
    assert_eq!(signature(foreign.as_bytes()), Err(ScramError::ServerSignature));
    assert_eq!(signature(b"e=invalid-proof"), Err(ScramError::ServerError));
    assert_eq!(signature(b"v=AAAA"), Err(ScramError::Malformed("server signature")));
    assert_eq!(signature(b""), Err(ScramError::Malformed("no server signature")));
}

#[test]
fn a_user_without_a_secret_sees_the_same_exchange_twice_and_fails() {
    let challenge = |user: &str| {
        let mock = Verifier::mock(b"process secret", user, FEW);
        let server = ScramServer::mock(mock, None, SERVER_NONCE);
        let client = ScramClient::new(ClientBinding::Cannot, CLIENT_NONCE);
        server.challenge(Mechanism::Scram, &client.first_message()).unwrap().0
    };
    assert_eq!(challenge("nobody"), challenge("nobody"));
    assert_ne!(challenge("nobody"), challenge("noone"));
    let real = server("secret", None);
    let client = ScramClient::new(ClientBinding::Cannot, CLIENT_NONCE);
    let (first, _) = real.challenge(Mechanism::Scram, &client.first_message()).unwrap();
    assert_eq!(first.len(), challenge("nobody").len());
    // Even a password that would fit is refused.
    let mock = ScramServer::mock(verifier("secret"), None, SERVER_NONCE);
    assert_eq!(exchange(mock, &keys("secret"), ClientBinding::Cannot), Err(ScramError::WrongProof));
}

#[test]
fn iterations_beyond_the_bound_are_never_computed() {
    let asked = MAX_ITERATIONS + 1;
    let refused = ScramKeys::from_password(b"x", SALT, asked);
    assert_eq!(refused, Err(ScramError::Iterations(asked)));
    let mut hostile = verifier("x");
    hostile.iterations = 2_147_483_647;
    assert!(!hostile.fits(b"x"));
}

#[test]
fn an_initial_response_must_be_as_long_as_it_says() {
    let good = b"SCRAM-SHA-256\0\0\0\0\x03n,,";
    assert_eq!(parse_initial_response(good), Ok((&b"SCRAM-SHA-256"[..], &b"n,,"[..])));
    for bad in [
        &b""[..],
        b"SCRAM",
        b"X\0",
        b"X\0\0\0\0",
        b"X\0\0\0\0\x04n,,",
        b"X\0\xff\xff\xff\xff",
        b"X\0\0\0\0\x02n,,",
    ] {
        assert!(parse_initial_response(bad).is_err(), "{bad:?}");
    }
}

proptest! {
    #[test]
    fn no_bytes_make_either_side_panic(bytes in prop::collection::vec(any::<u8>(), 0..120), tls: bool) {
        let end_point = tls.then(|| vec![9; 32]);
        let _ = parse_initial_response(&bytes);
        let _ = String::from_utf8_lossy(&bytes).parse::<Verifier>();
        for mechanism in [Mechanism::Scram, Mechanism::ScramPlus] {
            let _ = server("x", end_point.clone()).challenge(mechanism, &bytes);
        }
        let client = ScramClient::new(ClientBinding::Cannot, CLIENT_NONCE);
        let (_, next) = server("x", None).challenge(Mechanism::Scram, &client.first_message()).unwrap();
        prop_assert!(next.verify(&bytes).is_err());
        prop_assert!(client.challenge(&bytes).is_err());
    }

    #[test]
    fn a_changed_byte_of_the_last_message_never_logs_in(at: prop::sample::Index, to: u8) {
        let client = ScramClient::new(ClientBinding::EndPoint(vec![9; 32]), CLIENT_NONCE);
        let begun = server("secret", Some(vec![9; 32])).challenge(Mechanism::ScramPlus, &client.first_message());
        let (first, next) = begun.unwrap();
        let (mut last, _) = client.challenge(&first).unwrap().answer(&keys("secret"));
        let at = at.index(last.len());
        prop_assume!(last[at] != to);
        last[at] = to;
        prop_assert!(next.verify(&last).is_err());
    }

    #[test]
    fn any_password_logs_in_with_itself(password in prop::collection::vec(any::<u8>(), 1..80)) {
        let keys = ScramKeys::from_password(&password, SALT, 1).unwrap();
        let server = ScramServer::new(keys.verifier(SALT, 1), vec![], None, SERVER_NONCE);
        prop_assert!(exchange(server, &keys, ClientBinding::Cannot).is_ok());
    }

    #[test]
    fn verifiers_are_read_back_as_written(salt in prop::collection::vec(any::<u8>(), 1..40), n in 1u32..=0x7fff_ffff) {
        let verifier = keys("x").verifier(&salt, n);
        prop_assert_eq!(verifier.to_string().parse(), Ok(verifier));
    }
}
