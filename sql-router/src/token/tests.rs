use super::*;
use proptest::prelude::*;

fn kinds(text: &str) -> Vec<(Kind, String)> {
    cut(text.as_bytes())
        .all
        .iter()
        .map(|token| (token.kind, String::from_utf8_lossy(token.bytes(text.as_bytes())).into_owned()))
        .collect()
}

fn texts(text: &str) -> Vec<String> {
    kinds(text).into_iter().map(|(_, written)| written).collect()
}

#[test]
fn tokens_are_those_of_postgresql() {
    for (text, expected) in [
        ("a.b(c)", &["a", ".", "b", "(", "c", ")"][..]),
        ("1into t", &["1", "into", "t"]),
        ("1.5e-3+.5", &["1.5e-3", "+", ".5"]),
        ("1e'x'", &["1", "e'x'"]),
        ("te'x'", &["te", "'x'"]),
        ("N'a' B'1' x'F' U&'b'", &["N'a'", "B'1'", "x'F'", "U&'b'"]),
        ("a$$b$$", &["a$$b$$"]),
        ("$1$$x$$", &["$1", "$$x$$"]),
        ("$a$ $b$ $a$", &["$a$ $b$ $a$"]),
        ("a*/* x */b", &["a", "*", "b"]),
        ("a+--c\nb", &["a", "+", "b"]),
        ("a*-1", &["a", "*", "-", "1"]),
        ("a@-1", &["a", "@-", "1"]),
        ("a::int", &["a", "::", "int"]),
        ("/*/* a */*/b", &["b"]),
        ("/*/*/ */ */b", &["b"]),
        ("/***/b", &["b"]),
        ("\"a\"\"b\"", &["\"a\"\"b\""]),
        ("E'a\\'b' c", &["E'a\\'b'", "c"]),
    ] {
        assert_eq!(texts(text), expected, "{text}");
        assert_eq!(cut(text.as_bytes()).ambiguous, None, "{text}");
    }
}

#[test]
fn what_can_be_read_in_two_ways_says_so() {
    for text in ["E'a'\n'b'", "E'\u{e9}\\' '", "'", "\"a", "/* a", "$$ a", "(", ")", "(]", "a\0b"] {
        assert!(cut(text.as_bytes()).ambiguous.is_some(), "{text}");
    }
}

#[test]
fn a_backslash_before_a_quote_is_noted_and_can_be_read_in_the_old_way() {
    let text = r"'\', nextval('s') --'";
    let texts = |tokens: &Tokens| {
        tokens.all.iter().map(|token| token.bytes(text.as_bytes()).len()).collect::<Vec<_>>()
    };
    let (new, old) = (cut(text.as_bytes()), cut_unconforming(text.as_bytes()));
    assert!(new.backslash && new.ambiguous.is_none());
    assert_eq!((texts(&new), texts(&old)), (vec![3, 1, 7, 1, 3, 1], vec![14, 1, 6]));
    assert_eq!(cut_unconforming(br"SELECT 'C:\'").ambiguous, Some(Ambiguity::Unclosed));
    assert!(!cut(br"SELECT 'a\b', E'c\'', B'\'").backslash);
}

#[test]
fn halves_of_letters_are_not_taken_for_signs() {
    // In SJIS this is a call of a function whose name ends in a letter of two bytes.
    assert_eq!(cut(b"SELECT f\x95\\('x')").ambiguous, Some(Ambiguity::Letters));
    assert_eq!(cut("SELECT gr\u{f6}\u{df}\u{e9}[1]||x".as_bytes()).ambiguous, None);
    assert_eq!(cut(b"SELECT '\xe9' FROM \xe9t\xe9 WHERE a[1] ~ 'x'").ambiguous, None);
}

#[test]
fn names_are_as_postgresql_stores_them() {
    let name =
        |kind, written: &str| String::from_utf8(Name::of(kind, written.as_bytes()).bytes().to_vec()).unwrap();
    assert_eq!(name(Kind::Word, "NextVal"), "nextval");
    assert_eq!(name(Kind::Quoted, "\"A\"\"b\""), "A\"b");
    assert_eq!(name(Kind::Quoted, "\"\"\"\"\"\""), "\"\"");
    assert_eq!(name(Kind::Word, &"x".repeat(70)).len(), 63);
    assert_eq!(name(Kind::Quoted, &format!("\"{}\u{e9}\"", "x".repeat(62))).len(), 62);
}

#[test]
fn a_parenthesis_knows_its_mate() {
    let tokens = cut(b"((a)b)");
    let mates: Vec<u32> = tokens.all.iter().map(|token| token.mate).collect();
    assert_eq!(mates, [5, 3, 2, 1, 4, 0]);
}

proptest! {
    #[test]
    fn any_bytes_are_cut_to_an_end(text: Vec<u8>) {
        let tokens = cut(&text);
        let mut end = 0;
        for token in &tokens.all {
            prop_assert!(token.start >= end && token.end > token.start);
            end = token.end;
        }
        prop_assert!(end as usize <= text.len());
    }

    #[test]
    fn sql_like_bytes_are_cut_to_an_end(text in "[a-z'\"$/*;\\- \\\\\n0-9()&ebuxn]{0,80}") {
        let _ = cut(text.as_bytes());
    }
}
