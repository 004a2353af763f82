//! A query over the rows of its table. Pure.

use super::super::{Failure, Field};
use super::{Comparison, Items, Operand, Query, Test};
use crate::tables::{Kind, Row, Value};
use std::cmp::Ordering;

impl Query {
    /// Columns of the result.
    pub(in crate::console) fn fields(&self) -> Vec<Field> {
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
    pub(in crate::console) fn run(&self, rows: Vec<Row>, parameters: &[Value]) -> Result<Vec<Row>, Failure> {
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
    use super::*;
    use proptest::prelude::*;

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
    }
}
