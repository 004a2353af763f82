//! Prometheus's text format, version 0.0.4. Source: <https://prometheus.io/docs/instrumenting/exposition_formats/>.
//! Pure.

use super::families::{FAMILIES, Type};
use crate::door::facts::Histogram;
use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};

/// Room for what is written above the series of a family, in bytes: a guess.
const HEAD: usize = 256;

/// Series by family, in the order of [`FAMILIES`] at the end.
pub(super) struct Text {
    series: BTreeMap<&'static str, String>,
    /// Bounds of buckets as they are written.
    bounds: Vec<String>,
}

impl Default for Text {
    fn default() -> Self {
        let bounds = (0..=Histogram::BOUNDED).map(|bucket| match Histogram::bound(bucket) {
            Some(bound) => bound.to_string(),
            None => "+Inf".to_owned(),
        });
        Self { series: BTreeMap::new(), bounds: bounds.collect() }
    }
}

impl Text {
    pub(super) fn value(&mut self, name: &'static str, labels: &[(&str, &str)], value: f64) {
        self.line(name, labels, value);
    }

    pub(super) fn count(&mut self, name: &'static str, labels: &[(&str, &str)], value: u64) {
        self.line(name, labels, value);
    }

    pub(super) fn size(&mut self, name: &'static str, labels: &[(&str, &str)], value: usize) {
        self.line(name, labels, value);
    }

    pub(super) fn flag(&mut self, name: &'static str, labels: &[(&str, &str)], is: bool) {
        self.size(name, labels, usize::from(is));
    }

    /// Most of a scrape: labels are written once, and copied for each bucket.
    pub(super) fn histogram(&mut self, name: &'static str, labels: &[(&str, &str)], histogram: &Histogram) {
        if histogram.buckets.is_empty() {
            return;
        }
        let mut pairs = String::new();
        write_pairs(&mut pairs, labels);
        let text = self.series.entry(name).or_default();
        let mut sum = 0;
        for (count, bound) in histogram.buckets.iter().zip(&self.bounds) {
            sum += count;
            for part in [name, "_bucket{", &pairs, ",le=\"", bound, "\"} "] {
                text.push_str(part);
            }
            end(text, sum);
        }
        #[expect(clippy::cast_precision_loss, reason = "285 years are exact")]
        let seconds = histogram.sum as f64 / 1e6;
        for part in [name, "_sum{", &pairs, "} "] {
            text.push_str(part);
        }
        end(text, seconds);
        for part in [name, "_count{", &pairs, "} "] {
            text.push_str(part);
        }
        end(text, sum);
    }

    fn line(&mut self, name: &'static str, labels: &[(&str, &str)], value: impl Display) {
        let text = self.series.entry(name).or_default();
        text.push_str(name);
        if !labels.is_empty() {
            text.push('{');
            write_pairs(text, labels);
            text.push('}');
        }
        text.push(' ');
        end(text, value);
    }

    /// All of it. A series whose family is not described is left out; a test finds it.
    pub(super) fn finish(self) -> String {
        let mut out = String::with_capacity(self.series.values().map(|series| series.len() + HEAD).sum());
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

/// The value, and the end of the line.
fn end(text: &mut String, value: impl Display) {
    // Writing to a text cannot fail.
    let _ = writeln!(text, "{value}");
}

/// Labels, parted by commas.
fn write_pairs(out: &mut String, labels: &[(&str, &str)]) {
    for (place, (label, value)) in labels.iter().enumerate() {
        out.push_str(if place == 0 { "" } else { "," });
        out.push_str(label);
        out.push_str("=\"");
        let mut rest = *value;
        while let Some((before, found, after)) = next_escape(rest) {
            out.push_str(before);
            out.push_str(found);
            rest = after;
        }
        out.push_str(rest);
        out.push('"');
    }
}

/// What is before the first character that has to be escaped, how that is written, and what is behind it.
fn next_escape(text: &str) -> Option<(&str, &'static str, &str)> {
    let place = text.find(['\\', '"', '\n'])?;
    let (before, rest) = text.split_at_checked(place)?;
    let mut rest = rest.chars();
    let escaped = match rest.next()? {
        '"' => "\\\"",
        '\n' => "\\n",
        _ => "\\\\",
    };
    Some((before, escaped, rest.as_str()))
}
