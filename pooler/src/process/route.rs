//! `hawser route`: where statements would go, and why.

use std::io::{self, BufRead, Write};

use hawser_sql_router::classify::classify;
use hawser_sql_router::knowledge::{Knowledge, Nothing, SearchPath};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::catalog::{Live, LiveError};
use crate::config::{Arguments, Environment, Problems, load};
use crate::route::verdicts::{as_json, as_table};

/// Longest line of standard input, in bytes. What is longer is answered with an error, and not kept.
const LONGEST_LINE: u64 = 512 * 1024 * 1024;

/// What `hawser route` was asked.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub struct Question {
    /// SQL; each argument is one text and may hold several statements
    #[arg(value_name = "SQL", required_unless_present = "stdin", conflicts_with = "stdin")]
    pub texts: Vec<String>,
    /// Answer with one JSON object a line for each text
    #[arg(long)]
    pub json: bool,
    /// Read texts from standard input, as one JSON object a line: {"sql": "..."}. Implies --json
    #[arg(long)]
    pub stdin: bool,
    /// Ask this database what its functions, views and types do
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// The search_path of the session; without it the user's own with --url, else none is known
    #[arg(long, value_name = "SCHEMAS")]
    pub search_path: Option<String>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum RouteError {
    /// The URL is wrong.
    #[error("the URL is wrong\n{0}")]
    Url(Problems),
    /// The database could not be asked.
    #[error("the database cannot be asked")]
    Live(#[from] LiveError),
    /// Standard input or output failed.
    #[error("standard input or output")]
    Stream(#[from] io::Error),
}

/// Answers on `output`. Returns whether everything was understood as a question.
///
/// # Errors
/// The database could not be asked, or input or output failed.
pub fn route(
    question: &Question,
    environment: &Environment,
    input: &mut impl BufRead,
    output: &mut impl Write,
) -> Result<bool, RouteError> {
    let (knowledge, path) = knowledge(question, environment)?;
    let knowledge = &*knowledge;
    if question.stdin {
        return answer_lines(knowledge, &path, input, output);
    }
    for text in &question.texts {
        let verdicts = classify(text.as_bytes(), knowledge, &path);
        if question.json {
            write_line(output, &as_json(&verdicts))?;
        } else {
            output.write_all(as_table(text, &verdicts).as_bytes())?;
        }
    }
    output.flush()?;
    Ok(true)
}

fn knowledge(
    question: &Question,
    environment: &Environment,
) -> Result<(Box<dyn Knowledge>, SearchPath), RouteError> {
    let (knowledge, path): (Box<dyn Knowledge>, SearchPath) = match &question.url {
        None => (Box::new(Nothing), SearchPath::unknown()),
        Some(url) => {
            let arguments = Arguments { source: Some(url.clone()), ..Arguments::default() };
            let settings = load(&arguments, environment).map_err(RouteError::Url)?.settings;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let (catalog, path) = runtime.block_on(async {
                let mut live = Live::connect(&settings).await?;
                let found = (live.catalog().await?, live.path().await?);
                live.close();
                Ok::<_, LiveError>(found)
            })?;
            (Box::new(catalog), path)
        }
    };
    let path = match &question.search_path {
        // Nobody is called like that; `$user` in a path that is given by hand finds nothing.
        Some(setting) => SearchPath::parse(setting, ""),
        None => path,
    };
    Ok((knowledge, path))
}

/// One line of standard input.
#[derive(Debug, Deserialize)]
struct Line {
    sql: String,
}

fn answer_lines(
    knowledge: &dyn Knowledge,
    path: &SearchPath,
    input: &mut impl BufRead,
    output: &mut impl Write,
) -> Result<bool, RouteError> {
    let mut all_understood = true;
    let mut line = Vec::new();
    while read_line(input, &mut line)? {
        if line.trim_ascii().is_empty() {
            continue;
        }
        let answer = match serde_json::from_slice::<Line>(&line) {
            Ok(Line { sql }) => as_json(&classify(sql.as_bytes(), knowledge, path)),
            Err(error) => {
                all_understood = false;
                // Whoever only looks for the host is sent where nothing can go wrong.
                json!({"access": "write", "host": "primary", "reason": "not understood", "code": "no_question",
                    "effects": [], "error": format!("not a JSON object with a text \"sql\": {error}")})
            }
        };
        write_line(output, &answer)?;
    }
    output.flush()?;
    Ok(all_understood)
}

/// Takes the next line into `line`; false at the end.
fn read_line(input: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    let taken = io::Read::take(&mut *input, LONGEST_LINE).read_until(b'\n', line)?;
    if taken as u64 == LONGEST_LINE && line.last() != Some(&b'\n') {
        // The rest of the line is dropped; the beginning is no JSON without it.
        while let Some(part) = Some(input.fill_buf()?).filter(|part| !part.is_empty()) {
            let end = part.iter().position(|byte| *byte == b'\n');
            let length = end.map_or(part.len(), |end| end + 1);
            input.consume(length);
            if end.is_some() {
                break;
            }
        }
    }
    Ok(taken > 0)
}

fn write_line(output: &mut impl Write, answer: &Value) -> io::Result<()> {
    serde_json::to_writer(&mut *output, answer)?;
    output.write_all(b"\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(question: &Question, input: &str) -> (bool, Vec<Value>) {
        let mut output = Vec::new();
        let understood = route(question, &Environment::of([]), &mut input.as_bytes(), &mut output).unwrap();
        let lines = String::from_utf8(output).unwrap();
        (understood, lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
    }

    fn question(texts: &[&str]) -> Question {
        let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
        Question { stdin: texts.is_empty(), texts, json: true, url: None, search_path: None }
    }

    #[test]
    fn each_text_has_one_line() {
        let (_, lines) = answers(&question(&["SELECT 1", "SELECT 1; INSERT INTO t VALUES (1)", ""]), "");
        let hosts: Vec<&str> = lines.iter().map(|line| line["host"].as_str().unwrap()).collect();
        assert_eq!(hosts, ["standby", "primary", "any"]);
        assert_eq!(lines[0]["access"], "read");
        assert_eq!(lines[1]["statements"][0]["host"], "standby");
        assert_eq!(lines[1]["access"], "write");
    }

    #[test]
    fn standard_input_is_answered_line_by_line_whatever_it_holds() {
        let input = "{\"sql\": \"SET a TO 'secret'\"}\n\nnot json\n{\"sql\": 1}\n{\"sql\": \"\\u0000\"}\n{\"sql\":\"SELECT 1\"}";
        let (understood, lines) = answers(&question(&[]), input);
        assert!(!understood);
        assert_eq!(lines.len(), 5);
        assert_eq!(lines[0]["effects"][0], "set a");
        assert!(lines[1]["error"].is_string() && lines[2]["host"] == "primary");
        assert_eq!(lines[4]["host"], "standby");
    }
}
