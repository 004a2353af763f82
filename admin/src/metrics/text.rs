//! Prometheus's text format, version 0.0.4. Source: <https://prometheus.io/docs/instrumenting/exposition_formats/>.
//! Pure.

use super::families::{FAMILIES, Type};
use crate::door::facts::Histogram;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Series by family, in the order of [`FAMILIES`] at the end.
#[derive(Default)]
pub(super) struct Text {
    series: BTreeMap<&'static str, String>,
}

impl Text {
    pub(super) fn value(&mut self, name: &'static str, labels: &[(&str, &str)], value: f64) {
        self.line(name, "", labels, None, |line| write!(line, "{value}"));
    }

    pub(super) fn count(&mut self, name: &'static str, labels: &[(&str, &str)], value: u64) {
        self.line(name, "", labels, None, |line| write!(line, "{value}"));
    }

    pub(super) fn size(&mut self, name: &'static str, labels: &[(&str, &str)], value: usize) {
        self.line(name, "", labels, None, |line| write!(line, "{value}"));
    }

    pub(super) fn flag(&mut self, name: &'static str, labels: &[(&str, &str)], is: bool) {
        self.size(name, labels, usize::from(is));
    }

    pub(super) fn histogram(&mut self, name: &'static str, labels: &[(&str, &str)], histogram: &Histogram) {
        if histogram.buckets.is_empty() {
            return;
        }
        let mut sum = 0;
        for (bucket, count) in histogram.buckets.iter().enumerate() {
            sum += count;
            let bound = Histogram::bound(bucket).map_or("+Inf".to_owned(), |bound| bound.to_string());
            self.line(name, "_bucket", labels, Some(&bound), |line| write!(line, "{sum}"));
        }
        #[expect(clippy::cast_precision_loss, reason = "285 years are exact")]
        let seconds = histogram.sum as f64 / 1e6;
        self.line(name, "_sum", labels, None, |line| write!(line, "{seconds}"));
        self.line(name, "_count", labels, None, |line| write!(line, "{sum}"));
    }

    fn line(
        &mut self,
        name: &'static str,
        suffix: &str,
        labels: &[(&str, &str)],
        bound: Option<&str>,
        value: impl FnOnce(&mut String) -> std::fmt::Result,
    ) {
        let text = self.series.entry(name).or_default();
        text.push_str(name);
        text.push_str(suffix);
        let bound = bound.map(|bound| ("le", bound));
        let mut before = '{';
        for (label, value) in labels.iter().copied().chain(bound) {
            text.push(before);
            text.push_str(label);
            text.push_str("=\"");
            escape(text, value);
            text.push('"');
            before = ',';
        }
        if before == ',' {
            text.push('}');
        }
        text.push(' ');
        // Writing to a text cannot fail.
        let _ = value(text);
        text.push('\n');
    }

    /// All of it. A series whose family is not described is left out; a test finds it.
    pub(super) fn finish(self) -> String {
        let mut out = String::new();
        for family in FAMILIES {
            let Some(series) = self.series.get(family.name) else { continue };
            let kind = match family.kind {
                Type::Counter => "counter",
                Type::Gauge => "gauge",
                Type::Histogram => "histogram",
            };
            let _ = writeln!(out, "# HELP {} {}\n# TYPE {} {kind}", family.name, family.help, family.name);
            out.push_str(series);
        }
        out
    }

    /// Families that were written to.
    #[cfg(test)]
    pub(super) fn names(&self) -> Vec<&'static str> {
        self.series.keys().copied().collect()
    }
}

fn escape(out: &mut String, value: &str) {
    for c in value.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
}
