//! The shape of a text: what stays when its literals, comments and blanks are taken out. Pure.
//!
//! Texts of one shape share a [`Fingerprint`], so that they can be counted together and what was learned about one
//! holds for all. Literals and parameters are `?`, words without quotes are in lower case, and what repeats itself
//! in a list (`IN (1, 2, 3)`, the rows of VALUES, `ARRAY[...]`) is there once.

use crate::keywords::{Standing, standing};
use crate::token::{Cutter, Kind, Name};

/// Longest shape, in bytes. What is beyond it counts in the hash and is not shown.
pub const LONGEST: usize = 4096;

/// Longest text that is looked at, in bytes. What is beyond it does not count.
const LONGEST_TEXT: usize = crate::classify::LONGEST;

/// Lists inside each other in which repetitions are seen.
const DEEPEST: usize = 8;

/// The shape of a text.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Fingerprint {
    /// Equal for texts of one shape. It may change from one version of Hawser to the next.
    pub hash: u64,
    /// The shape, as SQL with `?` for literals.
    pub text: String,
}

/// The fingerprint of `text`. One pass, linear in time; it holds no more than the shape.
#[must_use]
pub fn of(text: &[u8]) -> Fingerprint {
    let text = text.get(..LONGEST_TEXT).unwrap_or(text);
    let mut shape = Shape::default();
    let mut cutter = Cutter::new(text);
    while let Some((kind, written)) = cutter.next_token() {
        shape.take(kind, written);
    }
    shape.finish()
}

/// A list that is being written.
#[derive(Debug, Clone, Copy, Default)]
struct List {
    /// Parentheses that are open around its items.
    depth: u32,
    /// It ends with the parenthesis around it; else with the first word behind an item.
    enclosed: bool,
    /// Where the item before begins and ends in the shape.
    before: Option<(usize, usize)>,
    /// Where this item begins; `None` until something of it is there.
    start: Option<usize>,
}

#[derive(Debug, Default)]
struct Shape {
    out: Vec<u8>,
    /// What did not find room in `out`.
    rest: u64,
    depth: u32,
    lists: [List; DEEPEST],
    /// How many of `lists` are open.
    open: usize,
    last: Last,
    /// A sign that belongs to the next number, if one follows.
    sign: Option<u8>,
}

/// What was written last, as far as it matters for what follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Last {
    /// Nothing, or what wants no blank behind it.
    #[default]
    Tight,
    /// A name or a literal.
    Operand,
    /// A literal.
    Literal,
    /// A word of the grammar.
    Keyword,
    /// IN.
    In,
    /// ARRAY.
    Array,
    /// VALUES.
    Values,
    /// An operator or a comma.
    Operator,
}

impl Shape {
    fn take(&mut self, kind: Kind, written: &[u8]) {
        let begins_operand = !matches!(self.last, Last::Operand | Last::Literal);
        if kind == Kind::Operator && begins_operand && matches!(written, b"-" | b"+") && self.sign.is_none() {
            self.sign = written.first().copied();
            return;
        }
        if let Some(sign) = self.sign.take()
            && !matches!(kind, Kind::Number | Kind::Parameter)
        {
            self.write(&[sign], true);
            self.last = Last::Operator;
        }
        self.end_rows(kind);
        match kind {
            Kind::Text | Kind::Number | Kind::Parameter => {
                // Two strings side by side are one.
                if self.last != Last::Literal {
                    self.write(b"?", self.last != Last::Tight);
                }
                self.last = Last::Literal;
            }
            Kind::Word => self.word(written),
            Kind::Quoted | Kind::UnicodeQuoted | Kind::Label => {
                self.write(written, self.last != Last::Tight);
                self.last = Last::Operand;
            }
            Kind::Open | Kind::OpenBracket => self.enter(kind, written),
            Kind::Close | Kind::CloseBracket => self.leave(written),
            Kind::Comma => self.comma(),
            Kind::Dot | Kind::Cast => {
                self.write(written, false);
                self.last = Last::Tight;
            }
            Kind::End => {
                self.open = 0;
                self.depth = 0;
                self.write(b";", false);
                self.last = Last::Operator;
            }
            Kind::Operator | Kind::Other => {
                self.write(written, self.last != Last::Tight);
                self.last = Last::Operator;
            }
        }
    }

    fn word(&mut self, written: &[u8]) {
        let name = Name::of(Kind::Word, written);
        self.write(name.bytes(), self.last != Last::Tight);
        self.last = match name.bytes() {
            b"in" => Last::In,
            b"array" => Last::Array,
            b"values" => Last::Values,
            word if standing(word) == Standing::Reserved => Last::Keyword,
            _ => Last::Operand,
        };
        if self.last == Last::Values {
            self.begin(false);
        }
    }

    fn enter(&mut self, kind: Kind, written: &[u8]) {
        let blank = match self.last {
            Last::Tight => false,
            Last::Operand | Last::Literal => false,
            Last::Array => kind == Kind::Open,
            Last::In | Last::Values | Last::Keyword | Last::Operator => true,
        };
        self.write(written, blank);
        self.depth += 1;
        if matches!((self.last, kind), (Last::In, Kind::Open) | (Last::Array, Kind::OpenBracket)) {
            self.begin(true);
        }
        self.last = Last::Tight;
    }

    fn leave(&mut self, written: &[u8]) {
        while let Some(list) = self.innermost()
            && list.depth >= self.depth
        {
            self.end_item();
            self.open -= 1;
        }
        self.depth = self.depth.saturating_sub(1);
        self.write(written, false);
        self.last = Last::Operand;
    }

    fn comma(&mut self) {
        if self.innermost().is_some_and(|list| list.depth == self.depth) {
            self.end_item();
        }
        self.write(b",", false);
        self.last = Last::Operator;
        let depth = self.depth;
        if let Some(list) = self.innermost_mut()
            && list.depth == depth
        {
            list.start = None;
        }
    }

    /// VALUES has no end of its own: whatever follows a row and is no comma ends it.
    fn end_rows(&mut self, kind: Kind) {
        let depth = self.depth;
        let ended = |list: List| {
            let behind = matches!(kind, Kind::Comma | Kind::Close | Kind::CloseBracket);
            !list.enclosed && list.depth == depth && list.start.is_some() && !behind
        };
        if self.innermost().is_some_and(ended) {
            self.end_item();
            self.open -= 1;
        }
    }

    fn innermost(&self) -> Option<List> {
        self.lists.get(self.open.checked_sub(1)?).copied()
    }

    fn innermost_mut(&mut self) -> Option<&mut List> {
        self.lists.get_mut(self.open.checked_sub(1)?)
    }

    fn begin(&mut self, enclosed: bool) {
        if let Some(place) = self.lists.get_mut(self.open) {
            *place = List { depth: self.depth, enclosed, before: None, start: None };
            self.open += 1;
        }
    }

    /// Takes the item away that is like the one before it.
    fn end_item(&mut self) {
        let Some(list) = self.innermost() else { return };
        let (Some(start), end) = (list.start, self.out.len()) else { return };
        let item = |(start, end): (usize, usize)| self.out.get(start..end);
        match list.before {
            Some(before) if item(before).is_some() && item(before) == item((start, end)) => {
                self.out.truncate(before.1);
            }
            _ => {
                if let Some(list) = self.innermost_mut() {
                    list.before = Some((start, end));
                }
            }
        }
    }

    fn write(&mut self, piece: &[u8], blank: bool) {
        if blank && !self.out.is_empty() {
            self.put(b" ");
        }
        let start = self.out.len();
        for list in self.lists.iter_mut().take(self.open) {
            list.start.get_or_insert(start);
        }
        self.put(piece);
    }

    fn put(&mut self, piece: &[u8]) {
        if self.rest == 0 && self.out.len() + piece.len() <= LONGEST {
            self.out.extend_from_slice(piece);
        } else {
            self.rest = hash(self.rest.max(1), piece).max(1);
        }
    }

    fn finish(mut self) -> Fingerprint {
        while self.open > 0 {
            self.end_item();
            self.open -= 1;
        }
        while matches!(self.out.last(), Some(b';' | b' ')) {
            self.out.pop();
        }
        let mut hash = hash(self.rest ^ 0xcbf2_9ce4_8422_2325, &self.out);
        hash ^= hash >> 29;
        let text = String::from_utf8(self.out)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned());
        Fingerprint { hash: hash.wrapping_mul(0x9e37_79b9_7f4a_7c15), text }
    }
}

/// FNV-1a.
fn hash(seed: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(seed, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn texts_of_one_shape_share_a_fingerprint() {
        for (shape, texts) in [
            (
                "select abalance from pgbench_accounts where aid = ?",
                &[
                    "SELECT abalance FROM pgbench_accounts WHERE aid = 42;",
                    "select  abalance\nfrom pgbench_accounts /* x */ where aid=$1 -- y",
                    "SELECT abalance FROM pgbench_accounts WHERE aid = -42",
                    "SELECT abalance FROM pgbench_accounts WHERE aid = 'a' 'b'",
                ][..],
            ),
            (
                "select * from t where a in (?) and b = any (array[?])",
                &[
                    "SELECT * FROM t WHERE a IN (1) AND b = ANY(ARRAY[1])",
                    "SELECT * FROM t WHERE a IN (1, -2, 'x', $4) AND b = ANY(ARRAY[1,2,3])",
                ],
            ),
            (
                "insert into t(a, b) values (?, now()) on conflict do nothing",
                &[
                    "INSERT INTO t (a, b) VALUES (1, now()) ON CONFLICT DO NOTHING",
                    "INSERT INTO t (a, b) VALUES (1, now()), (2, now()), (3, now()) ON CONFLICT DO NOTHING",
                ],
            ),
            ("select * from t where (a, b) in ((?, ?))", &["SELECT * FROM t WHERE (a,b) IN ((1,2),(3,4))"]),
            ("select a - ? from \"T\"", &["SELECT a - 1 FROM \"T\""]),
            ("select a[?]::int; select ?", &["SELECT a[1]::int; SELECT 2"]),
            ("select lower(x.y), - z", &["SELECT LOWER(X.Y), -Z"]),
            ("", &["", " ; ", "-- x"]),
        ] {
            let hashes: Vec<u64> = texts
                .iter()
                .map(|text| {
                    let fingerprint = of(text.as_bytes());
                    assert_eq!(fingerprint.text, shape, "{text}");
                    fingerprint.hash
                })
                .collect();
            assert!(hashes.windows(2).all(|two| two[0] == two[1]));
        }
    }

    #[test]
    fn other_shapes_have_other_fingerprints() {
        let texts = ["SELECT a", "SELECT b", "SELECT \"A\"", "SELECT a, b", "SELECT f(1, 2)", "SELECT f(1)"];
        let mut hashes: Vec<u64> = texts.iter().map(|text| of(text.as_bytes()).hash).collect();
        hashes.sort_unstable();
        hashes.dedup();
        assert_eq!(hashes.len(), texts.len());
    }

    #[test]
    fn long_lists_give_short_shapes_and_long_shapes_are_bounded() {
        let rows = vec!["(1, 'a')"; 5000].join(", ");
        assert_eq!(of(format!("INSERT INTO t VALUES {rows}").as_bytes()).text, "insert into t values (?, ?)");
        let columns = |last: &str| format!("SELECT {} {last}", "a + b * c, ".repeat(2000));
        let (one, other) = (of(columns("x").as_bytes()), of(columns("y").as_bytes()));
        assert!(one.text.len() <= LONGEST && one.hash != other.hash);
    }

    proptest! {
        #[test]
        fn any_bytes_have_a_fingerprint(text: Vec<u8>) {
            prop_assert!(of(&text).text.len() <= 3 * LONGEST);
        }

        #[test]
        fn a_shape_is_not_much_longer_than_its_text(
            text in "((SELECT|IN|VALUES|ARRAY|a|f|1|'x'|\\(|\\)|\\[|\\]|,|\\.|;|-|\\+|=|::)[ \n]?){0,24}"
        ) {
            let once = of(text.as_bytes());
            prop_assert!(once.text.len() <= text.len() * 2);
        }
    }
}
