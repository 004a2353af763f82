//! `SELECT columns FROM hawser.table WHERE … ORDER BY … LIMIT …` over one table. Pure.
//!
//! Comparisons are as in SQL, with NULL as the unknown: numbers by value, everything else by its text.

use super::tokens::Token;
use super::{Failure, Field};
use crate::tables::{self, Column, Kind, Row, Table, Value};
use std::cmp::Ordering;

/// Parentheses and NOTs within each other, at most.
const DEEPEST: usize = 50;

/// A query that was understood.
#[derive(Debug, Clone)]
pub(super) struct Query {
    /// The table that it is about.
    pub(super) table: &'static Table,
    /// Types of its parameters, `$1` first.
    pub(super) parameters: Vec<Kind>,
    items: Items,
    filter: Option<Test>,
    order: Vec<Sort>,
    limit: Option<Operand>,
    offset: Option<Operand>,
}

#[derive(Debug, Clone)]
enum Items {
    /// `count(*)`, and its name.
    Count(String),
    /// Places of columns, and their names.
    Columns(Vec<(usize, String)>),
}

#[derive(Debug, Clone)]
struct Sort {
    column: usize,
    descending: bool,
    nulls_first: bool,
}

/// What may stand beside a sign.
#[derive(Debug, Clone)]
enum Operand {
    Column(usize),
    Constant(Value),
    /// Counted from 0.
    Parameter(usize),
}

#[derive(Debug, Clone)]
enum Test {
    Compare(Operand, Comparison, Operand),
    IsNull(Operand),
    Like { of: Operand, pattern: Operand, any_case: bool },
    In(Operand, Vec<Operand>),
    Not(Box<Test>),
    And(Vec<Test>),
    Or(Vec<Test>),
}

#[derive(Debug, Clone, Copy)]
enum Comparison {
    Equal,
    Unequal,
    Less,
    Greater,
    AtMost,
    AtLeast,
}

/// Reads a whole statement, SELECT included.
pub(super) fn read(tokens: &[Token]) -> Result<Query, Failure> {
    let from =
        tokens.iter().position(|token| token.is("from")).ok_or_else(|| Failure::syntax("FROM is missing"))?;
    let list = tokens.get(1..from).unwrap_or_default();
    let rest = tokens.get(from + 1..).unwrap_or_default();
    let mut reader = Reader { rest, table: None, aliases: Vec::new(), parameters: Vec::new() };
    let table = reader.table()?;
    reader.table = Some(table);
    let items = reader.items(list)?;
    let filter = if reader.take("where") { Some(reader.either(0)?) } else { None };
    let order = reader.order(&items)?;
    let mut query = Query { table, parameters: Vec::new(), items, filter, order, limit: None, offset: None };
    loop {
        if query.limit.is_none() && reader.take("limit") {
            query.limit = Some(reader.amount()?);
        } else if query.offset.is_none() && reader.take("offset") {
            query.offset = Some(reader.amount()?);
        } else {
            break;
        }
    }
    if let Some(token) = reader.rest.first() {
        return Err(Failure::syntax(format!("the console does not understand {}", shown(token))));
    }
    query.parameters = reader.parameters.into_iter().map(|kind| kind.unwrap_or(Kind::Text)).collect();
    Ok(query)
}

fn shown(token: &Token) -> String {
    match token {
        Token::Word(text) | Token::Sign(text) | Token::Number(text) => format!("\"{text}\""),
        Token::Quoted(text) => format!("\"{text}\""),
        Token::Text(text) => format!("'{text}'"),
        Token::Parameter(number) => format!("${number}"),
    }
}

struct Reader<'a> {
    rest: &'a [Token],
    table: Option<&'static Table>,
    /// Names that may stand before a column.
    aliases: Vec<String>,
    parameters: Vec<Option<Kind>>,
}

impl Reader<'_> {
    fn take(&mut self, word: &str) -> bool {
        match self.rest.split_first() {
            Some((first, rest)) if first.is(word) => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    fn need(&mut self, word: &str) -> Result<(), Failure> {
        if self.take(word) {
            Ok(())
        } else {
            Err(Failure::syntax(format!("{} is missing", word.to_uppercase())))
        }
    }

    fn next(&mut self) -> Result<Token, Failure> {
        let (first, rest) =
            self.rest.split_first().ok_or_else(|| Failure::syntax("the statement ends too early"))?;
        self.rest = rest;
        Ok(first.clone())
    }

    fn name(&mut self) -> Result<String, Failure> {
        let token = self.next()?;
        token.name().ok_or_else(|| Failure::syntax(format!("a name is missing before {}", shown(&token))))
    }

    fn table(&mut self) -> Result<&'static Table, Failure> {
        let mut name = self.name()?;
        if self.take(".") {
            if !matches!(name.as_str(), "hawser" | "pgbouncer" | "public") {
                return Err(Failure::new("3F000", format!("schema \"{name}\" does not exist")));
            }
            name = self.name()?;
        }
        let unknown = || Failure::new("42P01", format!("relation \"{name}\" does not exist"));
        let table = tables::find(&name).ok_or_else(unknown)?;
        self.aliases.push(name);
        let taken = ["where", "order", "limit", "offset"];
        if self.take("as")
            || self
                .rest
                .first()
                .is_some_and(|next| next.name().is_some_and(|next| !taken.contains(&next.as_str())))
        {
            let alias = self.name()?;
            self.aliases.push(alias);
        }
        Ok(table)
    }

    fn columns(&self) -> &'static [Column] {
        self.table.map_or(&[], |table| table.columns)
    }

    fn column(&mut self) -> Result<usize, Failure> {
        let mut name = self.name()?;
        if self.take(".") {
            if !self.aliases.contains(&name) {
                return Err(Failure::new("42P01", format!("missing FROM-clause entry for table \"{name}\"")));
            }
            name = self.name()?;
        }
        let found = self.columns().iter().position(|column| column.name == name);
        found.ok_or_else(|| Failure::new("42703", format!("column \"{name}\" does not exist")))
    }

    fn items(&mut self, list: &[Token]) -> Result<Items, Failure> {
        let mut inner =
            Reader { rest: list, table: self.table, aliases: self.aliases.clone(), parameters: Vec::new() };
        if let [count, open, star, close, ..] = list
            && count.is("count")
            && open.is("(")
            && star.is("*")
            && close.is(")")
        {
            inner.rest = list.get(4..).unwrap_or_default();
            let name = if inner.take("as") { inner.name()? } else { "count".to_owned() };
            return if inner.rest.is_empty() {
                Ok(Items::Count(name))
            } else {
                Err(Failure::syntax("count(*) stands alone"))
            };
        }
        let mut items = Vec::new();
        loop {
            if inner.take("*") {
                let all = inner.columns().iter().enumerate();
                items.extend(all.map(|(place, column)| (place, column.name.to_owned())));
            } else {
                let place = inner.column()?;
                let named = inner.take("as")
                    || !(inner.rest.is_empty() || inner.rest.first().is_some_and(|next| next.is(",")));
                let own = || inner.columns().get(place).map_or("", |column| column.name).to_owned();
                let name = if named { None } else { Some(own()) };
                let name = match name {
                    Some(name) => name,
                    None => inner.name()?,
                };
                items.push((place, name));
            }
            if inner.rest.is_empty() {
                return Ok(Items::Columns(items));
            }
            inner.need(",")?;
        }
    }

    fn order(&mut self, items: &Items) -> Result<Vec<Sort>, Failure> {
        if !self.take("order") {
            return Ok(Vec::new());
        }
        self.need("by")?;
        let mut order = Vec::new();
        loop {
            let column = self.sorted_by(items)?;
            let descending = self.take("desc") || {
                self.take("asc");
                false
            };
            let mut nulls_first = descending;
            if self.take("nulls") {
                nulls_first = self.take("first");
                if !nulls_first {
                    self.need("last")?;
                }
            }
            order.push(Sort { column, descending, nulls_first });
            if !self.take(",") {
                return Ok(order);
            }
        }
    }

    /// A column by its name, by the name that it has in the result, or by its place there.
    fn sorted_by(&mut self, items: &Items) -> Result<usize, Failure> {
        let Items::Columns(items) = items else { return self.column() };
        if let Some(Token::Number(place)) = self.rest.first() {
            let place = place.parse::<usize>().ok().and_then(|place| items.get(place.checked_sub(1)?));
            let (column, _) =
                place.ok_or_else(|| Failure::new("42P10", "ORDER BY position is not in select list"))?;
            self.next()?;
            return Ok(*column);
        }
        let alias = self.rest.first().and_then(Token::name);
        let qualified = self.rest.get(1).is_some_and(|next| next.is("."));
        if let Some((column, _)) = items.iter().find(|(_, name)| !qualified && Some(name) == alias.as_ref()) {
            self.next()?;
            return Ok(*column);
        }
        self.column()
    }

    /// LIMIT ALL and LIMIT NULL are no limit.
    fn amount(&mut self) -> Result<Operand, Failure> {
        if self.take("all") || self.take("null") {
            return Ok(Operand::Constant(Value::Null));
        }
        let operand = self.operand()?;
        self.expect_kind(&operand, Kind::Int8);
        match &operand {
            Operand::Column(_) => Err(Failure::syntax("a number is missing")),
            _ => Ok(operand),
        }
    }

    fn either(&mut self, depth: usize) -> Result<Test, Failure> {
        let mut tests = vec![self.both(depth)?];
        while self.take("or") {
            tests.push(self.both(depth)?);
        }
        Ok(Test::Or(tests))
    }

    fn both(&mut self, depth: usize) -> Result<Test, Failure> {
        let mut tests = vec![self.test(depth)?];
        while self.take("and") {
            tests.push(self.test(depth)?);
        }
        Ok(Test::And(tests))
    }

    fn test(&mut self, depth: usize) -> Result<Test, Failure> {
        if depth > DEEPEST {
            return Err(Failure::new("54001", "too many parentheses"));
        }
        if self.take("not") {
            return Ok(Test::Not(Box::new(self.test(depth + 1)?)));
        }
        if self.take("(") {
            let inner = self.either(depth + 1)?;
            self.need(")")?;
            return Ok(inner);
        }
        let left = self.operand()?;
        if self.take("is") {
            let not = self.take("not");
            self.need("null")?;
            return Ok(negated(not, Test::IsNull(left)));
        }
        let not = self.take("not");
        let any_case = self.rest.first().is_some_and(|next| next.is("ilike"));
        if self.take("like") || self.take("~~") || self.take("ilike") {
            let pattern = self.operand()?;
            return Ok(negated(not, Test::Like { of: left, pattern, any_case }));
        }
        if !not && self.take("!~~") {
            let pattern = self.operand()?;
            return Ok(negated(true, Test::Like { of: left, pattern, any_case: false }));
        }
        if self.take("in") {
            return Ok(negated(not, self.one_of(left)?));
        }
        if not {
            return Err(Failure::syntax("LIKE or IN is missing"));
        }
        let comparison = self.comparison()?;
        let right = self.operand()?;
        self.agree(&left, &right);
        Ok(Test::Compare(left, comparison, right))
    }

    fn one_of(&mut self, left: Operand) -> Result<Test, Failure> {
        self.need("(")?;
        let mut members = Vec::new();
        loop {
            let member = self.operand()?;
            self.agree(&left, &member);
            members.push(member);
            if !self.take(",") {
                break;
            }
        }
        self.need(")")?;
        Ok(Test::In(left, members))
    }

    fn comparison(&mut self) -> Result<Comparison, Failure> {
        let token = self.next()?;
        let signs = [
            ("=", Comparison::Equal),
            ("<>", Comparison::Unequal),
            ("!=", Comparison::Unequal),
            ("<", Comparison::Less),
            (">", Comparison::Greater),
            ("<=", Comparison::AtMost),
            (">=", Comparison::AtLeast),
        ];
        let found = signs.into_iter().find(|(sign, _)| token.is(sign)).map(|(_, comparison)| comparison);
        found.ok_or_else(|| Failure::syntax(format!("a comparison is missing before {}", shown(&token))))
    }

    /// A value; pgjdbc puts what it has written in the place of a parameter into parentheses.
    fn operand(&mut self) -> Result<Operand, Failure> {
        let mut open = 0usize;
        while self.take("(") {
            open += 1;
        }
        let operand = self.bare_operand()?;
        for _ in 0..open {
            self.need(")")?;
            self.casts()?;
        }
        Ok(operand)
    }

    /// A cast changes nothing here.
    fn casts(&mut self) -> Result<(), Failure> {
        while self.take("::") {
            self.name()?;
        }
        Ok(())
    }

    fn bare_operand(&mut self) -> Result<Operand, Failure> {
        let token =
            self.rest.first().cloned().ok_or_else(|| Failure::syntax("the statement ends too early"))?;
        let operand = match token {
            Token::Number(_) | Token::Text(_) | Token::Parameter(_) => {
                self.next()?;
                self.literal(&token)?
            }
            Token::Sign(sign) if sign == "-" => {
                self.next()?;
                match self.next()? {
                    Token::Number(number) => Operand::Constant(Value::Int8(-whole(&number)?)),
                    other => {
                        return Err(Failure::syntax(format!("a number is missing before {}", shown(&other))));
                    }
                }
            }
            ref word if word.is("null") => {
                self.next()?;
                Operand::Constant(Value::Null)
            }
            _ => Operand::Column(self.column()?),
        };
        self.casts()?;
        Ok(operand)
    }

    fn literal(&mut self, token: &Token) -> Result<Operand, Failure> {
        Ok(match token {
            Token::Number(number) => Operand::Constant(Value::Int8(whole(number)?)),
            Token::Text(text) => Operand::Constant(Value::text(text)),
            Token::Parameter(number) => {
                /// As many as the protocol can carry.
                const MOST: usize = 65_535;
                let place = number.checked_sub(1).filter(|place| *place < MOST);
                let place =
                    place.ok_or_else(|| Failure::new("42P02", format!("there is no parameter ${number}")))?;
                if self.parameters.len() <= place {
                    self.parameters.resize(place + 1, None);
                }
                Operand::Parameter(place)
            }
            other => return Err(Failure::syntax(format!("a value is missing before {}", shown(other)))),
        })
    }

    /// A parameter has the type of the column that it is compared with.
    fn agree(&mut self, one: &Operand, other: &Operand) {
        for (column, operand) in [(one, other), (other, one)] {
            if let Operand::Column(place) = column
                && let Some(column) = self.columns().get(*place)
            {
                // Counts of ours are whole.
                let kind = if column.kind == Kind::Numeric { Kind::Int8 } else { column.kind };
                self.expect_kind(operand, kind);
            }
        }
    }

    fn expect_kind(&mut self, operand: &Operand, kind: Kind) {
        if let Operand::Parameter(place) = operand
            && let Some(known) = self.parameters.get_mut(*place)
        {
            known.get_or_insert(kind);
        }
    }
}

fn negated(not: bool, test: Test) -> Test {
    if not { Test::Not(Box::new(test)) } else { test }
}

fn whole(number: &str) -> Result<i64, Failure> {
    number.parse().map_err(|_| Failure::new("22003", format!("{number} is out of range")))
}

impl Query {
    /// Columns of the result.
    pub(super) fn fields(&self) -> Vec<Field> {
        match &self.items {
            Items::Count(name) => vec![Field { name: name.clone(), kind: Kind::Int8 }],
            Items::Columns(columns) => columns
                .iter()
                .map(|(place, name)| Field {
                    name: name.clone(),
                    kind: self.table.columns.get(*place).map_or(Kind::Text, |column| column.kind),
                })
                .collect(),
        }
    }

    /// The result, from all rows of the table.
    pub(super) fn run(&self, rows: Vec<Row>, parameters: &[Value]) -> Result<Vec<Row>, Failure> {
        let limit = amount(self.limit.as_ref(), parameters)?;
        let offset = amount(self.offset.as_ref(), parameters)?.unwrap_or(0);
        let mut kept = Vec::new();
        for row in rows {
            if let Some(filter) = &self.filter
                && holds(filter, &row, parameters)? != Some(true)
            {
                continue;
            }
            kept.push(row);
        }
        kept.sort_by(|one, other| self.compare(one, other));
        let result: Vec<Row> = match &self.items {
            Items::Count(_) => vec![vec![Value::int8(kept.len())]],
            Items::Columns(columns) => kept
                .into_iter()
                .map(|row| {
                    let value =
                        |(place, _): &(usize, String)| row.get(*place).cloned().unwrap_or(Value::Null);
                    columns.iter().map(value).collect()
                })
                .collect(),
        };
        Ok(result.into_iter().skip(offset).take(limit.unwrap_or(usize::MAX)).collect())
    }

    fn compare(&self, one: &Row, other: &Row) -> Ordering {
        for sort in &self.order {
            let (one, other) = (
                one.get(sort.column).unwrap_or(&Value::Null),
                other.get(sort.column).unwrap_or(&Value::Null),
            );
            let order = match (one == &Value::Null, other == &Value::Null) {
                (true, true) => Ordering::Equal,
                (true, false) if sort.nulls_first => Ordering::Less,
                (true, false) => Ordering::Greater,
                (false, true) if sort.nulls_first => Ordering::Greater,
                (false, true) => Ordering::Less,
                (false, false) => {
                    let order = order_of(one, other).unwrap_or(Ordering::Equal);
                    if sort.descending { order.reverse() } else { order }
                }
            };
            if order != Ordering::Equal {
                return order;
            }
        }
        Ordering::Equal
    }
}

fn amount(operand: Option<&Operand>, parameters: &[Value]) -> Result<Option<usize>, Failure> {
    let Some(operand) = operand else { return Ok(None) };
    let value = resolve(operand, &Vec::new(), parameters);
    if value == Value::Null {
        return Ok(None);
    }
    let number = match &value {
        Value::Text(text) => text.trim().parse().ok(),
        other => other.number(),
    };
    let number = number.ok_or_else(|| Failure::new("22P02", "LIMIT and OFFSET need a number"))?;
    usize::try_from(number)
        .map(Some)
        .map_err(|_| Failure::new("2201W", "LIMIT and OFFSET must not be negative"))
}

fn resolve(operand: &Operand, row: &Row, parameters: &[Value]) -> Value {
    match operand {
        Operand::Column(place) => row.get(*place).cloned().unwrap_or(Value::Null),
        Operand::Constant(value) => value.clone(),
        Operand::Parameter(place) => parameters.get(*place).cloned().unwrap_or(Value::Null),
    }
}

/// `None`: unknown, because of a NULL.
fn holds(test: &Test, row: &Row, parameters: &[Value]) -> Result<Option<bool>, Failure> {
    let value = |operand: &Operand| resolve(operand, row, parameters);
    Ok(match test {
        Test::IsNull(operand) => Some(value(operand) == Value::Null),
        Test::Compare(one, comparison, other) => {
            let order = ordered(&value(one), &value(other))?;
            order.map(|order| match comparison {
                Comparison::Equal => order == Ordering::Equal,
                Comparison::Unequal => order != Ordering::Equal,
                Comparison::Less => order == Ordering::Less,
                Comparison::Greater => order == Ordering::Greater,
                Comparison::AtMost => order != Ordering::Greater,
                Comparison::AtLeast => order != Ordering::Less,
            })
        }
        Test::Like { of, pattern, any_case } => {
            let (of, pattern) = (value(of), value(pattern));
            match (of.to_text(), pattern.to_text()) {
                (Some(of), Some(pattern)) if *any_case => {
                    Some(like(&of.to_lowercase(), &pattern.to_lowercase()))
                }
                (Some(of), Some(pattern)) => Some(like(&of, &pattern)),
                _ => None,
            }
        }
        Test::In(one, members) => {
            let one = value(one);
            let mut found = Some(false);
            for member in members {
                match ordered(&one, &value(member))? {
                    Some(Ordering::Equal) => return Ok(Some(true)),
                    Some(_) => {}
                    None => found = None,
                }
            }
            found
        }
        Test::Not(inner) => holds(inner, row, parameters)?.map(|is| !is),
        Test::And(tests) => joined(tests, row, parameters, false)?,
        Test::Or(tests) => joined(tests, row, parameters, true)?,
    })
}

/// AND (`decides` is false) or OR (`decides` is true): the first that decides does; else unknown if one is unknown.
fn joined(tests: &[Test], row: &Row, parameters: &[Value], decides: bool) -> Result<Option<bool>, Failure> {
    let mut outcome = Some(!decides);
    for test in tests {
        match holds(test, row, parameters)? {
            Some(is) if is == decides => return Ok(Some(decides)),
            Some(_) => {}
            None => outcome = None,
        }
    }
    Ok(outcome)
}

/// The order of two values, `None` with a NULL. A text beside a number is read as one.
fn ordered(one: &Value, other: &Value) -> Result<Option<Ordering>, Failure> {
    if *one == Value::Null || *other == Value::Null {
        return Ok(None);
    }
    order_of(one, other).map(Some).ok_or_else(|| {
        let text = if one.number().is_some() { other } else { one };
        let text = text.to_text().unwrap_or_default();
        Failure::new("22P02", format!("invalid input syntax for a number: \"{text}\""))
    })
}

fn order_of(one: &Value, other: &Value) -> Option<Ordering> {
    let parsed = |value: &Value| match value {
        Value::Text(text) => text.trim().parse::<i128>().ok(),
        value => value.number(),
    };
    match (one, other) {
        (Value::Text(one), Value::Text(other)) => Some(one.cmp(other)),
        _ if one.number().is_some() || other.number().is_some() => Some(parsed(one)?.cmp(&parsed(other)?)),
        _ => Some(one.to_text()?.cmp(&other.to_text()?)),
    }
}

/// SQL's LIKE: `%` is any text, `_` any character, `\` makes the next one plain.
fn like(text: &str, pattern: &str) -> bool {
    #[derive(PartialEq, Clone, Copy)]
    enum Part {
        Any,
        One,
        Plain(char),
    }
    let mut parts = Vec::new();
    let mut escaped = false;
    for c in pattern.chars() {
        match c {
            '\\' if !escaped => {
                escaped = true;
                continue;
            }
            '%' if !escaped => parts.push(Part::Any),
            '_' if !escaped => parts.push(Part::One),
            c => parts.push(Part::Plain(c)),
        }
        escaped = false;
    }
    // Which beginnings of the pattern the text read so far can be: no back-tracking.
    let mut reached = vec![false; parts.len() + 1];
    let spread = |reached: &mut Vec<bool>| {
        for (place, part) in parts.iter().enumerate() {
            if *part == Part::Any
                && reached.get(place) == Some(&true)
                && let Some(next) = reached.get_mut(place + 1)
            {
                *next = true;
            }
        }
    };
    if let Some(start) = reached.first_mut() {
        *start = true;
    }
    spread(&mut reached);
    for c in text.chars() {
        let mut next = vec![false; parts.len() + 1];
        for (place, part) in parts.iter().enumerate() {
            if reached.get(place) != Some(&true) {
                continue;
            }
            let target = match part {
                Part::Any => place,
                Part::One => place + 1,
                Part::Plain(plain) if *plain == c => place + 1,
                Part::Plain(_) => continue,
            };
            if let Some(target) = next.get_mut(target) {
                *target = true;
            }
        }
        spread(&mut next);
        reached = next;
    }
    reached.last() == Some(&true)
}

#[cfg(test)]
mod tests {
    use super::super::tokens::tokens;
    use super::*;
    use proptest::prelude::*;

    fn rows() -> Vec<Row> {
        [("app", 3, Some("x")), ("app", 10, None), ("web", 7, Some("y"))]
            .into_iter()
            .map(|(database, waiting, user)| {
                let mut row = vec![Value::Int4(0); tables::find("pools").unwrap().columns.len()];
                row[0] = Value::text(database);
                row[1] = Value::optional(user);
                row[3] = Value::Int4(waiting);
                row
            })
            .collect()
    }

    fn run(text: &str, parameters: &[Value]) -> Result<Vec<String>, String> {
        let query = read(&tokens(text).unwrap()).map_err(|failure| failure.words)?;
        let rows = query.run(rows(), parameters).map_err(|failure| failure.words)?;
        let text = |value: &Value| value.to_text().map_or("-".to_owned(), |text| text.into_owned());
        Ok(rows.iter().map(|row| row.iter().map(text).collect::<Vec<_>>().join(" ")).collect())
    }

    #[test]
    fn columns_are_chosen_filtered_sorted_and_cut() {
        let all = "SELECT database, cl_waiting AS w FROM hawser.pools p";
        assert_eq!(
            run(&format!("{all} WHERE cl_waiting > 3 ORDER BY w DESC"), &[]).unwrap(),
            ["app 10", "web 7"]
        );
        assert_eq!(run(&format!("{all} ORDER BY 2 LIMIT 1 OFFSET 1"), &[]).unwrap(), ["web 7"]);
        assert_eq!(
            run(&format!("{all} WHERE p.database LIKE 'a%' AND NOT (cl_waiting = 3 OR false_ IS NULL)"), &[]),
            Err("column \"false_\" does not exist".to_owned())
        );
        assert_eq!(run("SELECT count(*) FROM pools WHERE \"user\" IS NULL", &[]).unwrap(), ["1"]);
        assert_eq!(run("SELECT count(*) FROM pools WHERE \"user\" <> 'x'", &[]).unwrap(), ["1"]);
        assert_eq!(run("SELECT database FROM pools WHERE cl_waiting IN (7, 8)", &[]).unwrap(), ["web"]);
        assert_eq!(
            run("SELECT database FROM pools WHERE cl_waiting = (('7'::int8)::int4)", &[]).unwrap(),
            ["web"]
        );
        assert_eq!(
            run("SELECT cl_waiting FROM pools ORDER BY \"user\" NULLS FIRST, 1 DESC", &[]).unwrap(),
            ["10", "3", "7"]
        );
    }

    #[test]
    fn parameters_have_the_type_of_their_column() {
        let text = "SELECT cl_waiting FROM pools WHERE database = $2 AND cl_waiting >= $1 LIMIT $3";
        let query = read(&tokens(text).unwrap()).unwrap();
        assert_eq!(query.parameters, [Kind::Int4, Kind::Text, Kind::Int8]);
        let given = [Value::text("4"), Value::text("app"), Value::Null];
        assert_eq!(run(text, &given).unwrap(), ["10"]);
    }

    #[test]
    fn mistakes_are_named() {
        assert_eq!(run("SELECT a FROM pools", &[]).unwrap_err(), "column \"a\" does not exist");
        assert_eq!(run("SELECT * FROM app.pools", &[]).unwrap_err(), "schema \"app\" does not exist");
        assert_eq!(run("SELECT * FROM nothing", &[]).unwrap_err(), "relation \"nothing\" does not exist");
        assert_eq!(
            run("SELECT * FROM pools WHERE cl_waiting > 'many'", &[]).unwrap_err(),
            "invalid input syntax for a number: \"many\""
        );
        assert_eq!(
            run("SELECT * FROM pools GROUP BY 1", &[]).unwrap_err(),
            "the console does not understand \"BY\""
        );
        let deep = format!("SELECT * FROM pools WHERE {}1=1{}", "(".repeat(60), ")".repeat(60));
        assert_eq!(run(&deep, &[]).unwrap_err(), "too many parentheses");
        assert!(run(&format!("SELECT * FROM pools WHERE {} 1=1", "NOT ".repeat(9000)), &[]).is_err());
    }

    #[test]
    fn like_knows_its_signs() {
        for (text, pattern, is) in [
            ("abc", "a%", true),
            ("abc", "%b%", true),
            ("abc", "_b_", true),
            ("abc", "a_", false),
            ("", "%", true),
            ("a%c", "a\\%c", true),
            ("abc", "a\\%c", false),
        ] {
            assert_eq!(like(text, pattern), is, "{text} LIKE {pattern}");
        }
    }

    proptest! {
        #[test]
        fn like_takes_no_time(text in "[ab]{0,60}", pattern in "[ab%_]{0,60}") {
            let _ = like(&text, &pattern);
        }

        #[test]
        fn any_query_is_read_to_an_end(
            words in prop::collection::vec(
                prop::sample::select(vec![
                    "database", "pools", "WHERE", "(", ")", ",", "=", "AND", "OR", "'x'", "1", "$1", "$70000", "ORDER",
                    "BY", "LIMIT", "LIKE", "IN", "NOT", "IS", "NULL", "*", "::", "-", "OFFSET", "p", ".", "<=",
                ]),
                0..24,
            )
        ) {
            let text = format!("SELECT * FROM pools {}", words.join(" "));
            if let Ok(query) = read(&tokens(&text).unwrap()) {
                let _ = query.run(rows(), &[Value::text("1")]);
            }
        }
    }
}
