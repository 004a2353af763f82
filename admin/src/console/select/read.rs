//! From tokens to a query. Pure.

use super::super::Failure;
use super::super::tokens::Token;
use super::{Comparison, Items, Operand, Query, Sort, Test};
use crate::tables::{self, Column, Kind, Table, Value};

/// Parentheses and NOTs within each other, at most.
const DEEPEST: usize = 50;

/// Reads a whole statement, SELECT included.
pub(in crate::console) fn read(tokens: &[Token]) -> Result<Query, Failure> {
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
