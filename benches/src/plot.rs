//! Pure. Draws the ratios as an SVG: bars of CPU time per transaction, PgBouncer's being 1.

use std::fmt::Write;

use crate::report::Row;
use crate::workload::Workload;

const WIDTH: f64 = 900.0;
const LEFT: f64 = 150.0;
const RIGHT: f64 = 70.0;
const TOP: f64 = 70.0;
const BAR: f64 = 14.0;
const GAP: f64 = 12.0;

/// Colours of peers, in turn; all readable on white and on black.
const COLOURS: [&str; 6] = ["#2f81f7", "#8b949e", "#d29922", "#3fb950", "#a371f7", "#f0883e"];

/// The picture. Rows without a ratio are not drawn.
pub fn cpu_ratios(rows: &[Row], title: &str) -> String {
    let drawn: Vec<(&Row, f64)> = rows.iter().filter_map(|row| Some((row, row.cpu_ratio?))).collect();
    let mut peers: Vec<&str> = Vec::new();
    let mut workloads: Vec<Workload> = Vec::new();
    for (row, _) in &drawn {
        if !peers.contains(&row.peer.as_str()) {
            peers.push(&row.peer);
        }
        if !workloads.contains(&row.workload) {
            workloads.push(row.workload);
        }
    }
    let largest = drawn.iter().map(|(_, ratio)| *ratio).fold(1.0_f64, f64::max);
    let scale = (WIDTH - LEFT - RIGHT) / (largest * 1.05);
    let colour = |peer: &str| {
        let place = peers.iter().position(|other| *other == peer).unwrap_or_default();
        COLOURS.get(place % COLOURS.len()).copied().unwrap_or("#888888")
    };

    let mut body = String::new();
    let mut y = TOP;
    for workload in workloads {
        let bars: Vec<_> = drawn.iter().filter(|(row, _)| row.workload == workload).collect();
        let middle = y + bars.len() as f64 * BAR / 2.0 + 4.0;
        put(
            &mut body,
            &format!(
                r#"<text x="{}" y="{middle}" text-anchor="end">{}</text>"#,
                LEFT - 10.0,
                workload.name()
            ),
        );
        for (row, ratio) in bars {
            let (width, fill) = (ratio * scale, colour(&row.peer));
            put(
                &mut body,
                &format!(
                    r#"<rect x="{LEFT}" y="{y}" width="{width:.1}" height="{}" fill="{fill}"/>"#,
                    BAR - 2.0
                ),
            );
            let (x, base) = (LEFT + width + 5.0, y + BAR - 4.0);
            put(&mut body, &format!(r#"<text x="{x:.1}" y="{base}" font-size="11">{ratio:.2}</text>"#));
            y += BAR;
        }
        y += GAP;
    }
    let one = LEFT + scale;
    put(
        &mut body,
        &format!(
            r##"<line x1="{one:.1}" x2="{one:.1}" y1="{}" y2="{y}" stroke="#888" stroke-dasharray="4 3"/>"##,
            TOP - 6.0
        ),
    );
    let mut x = LEFT;
    for peer in &peers {
        put(&mut body, &format!(r#"<rect x="{x}" y="42" width="11" height="11" fill="{}"/>"#, colour(peer)));
        put(&mut body, &format!(r#"<text x="{}" y="52">{}</text>"#, x + 16.0, escape(peer)));
        x += 40.0 + peer.len() as f64 * 7.5;
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" \
         font-size=\"13\" fill=\"#333\">\n<rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#fff\"/>\n\
         <text x=\"{LEFT}\" y=\"26\" font-size=\"16\">{}</text>\n{body}</svg>\n",
        escape(title),
        height = y + 10.0,
    )
}

fn put(body: &mut String, element: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(body, "{element}");
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::Goal;

    fn row(peer: &str, cpu_ratio: Option<f64>) -> Row {
        Row {
            workload: Workload::Simple,
            peer: peer.to_owned(),
            tps: 1.0,
            latency_ms: 1.0,
            cpu_us: None,
            cpu_ratio,
            syscalls: None,
            instructions: None,
            goal: Goal::default(),
        }
    }

    #[test]
    fn each_ratio_has_a_bar_and_direct_has_none() {
        let svg =
            cpu_ratios(&[row("direct", None), row("Hawser", Some(0.5)), row("PgBouncer", Some(1.0))], "CPU");
        // Background, two bars, two keys of the legend.
        assert_eq!(svg.matches("<rect").count(), 5);
        assert!(svg.contains(">0.50<") && !svg.contains("direct"));
    }

    #[test]
    fn bars_are_as_long_as_their_ratios() {
        let svg = cpu_ratios(&[row("a", Some(0.5)), row("b", Some(1.0))], "CPU");
        let width = |fill: &str| -> f64 {
            let bar = svg.lines().find(|l| l.contains(fill) && l.contains("height=\"12\"")).unwrap();
            bar.split("width=\"").nth(1).unwrap().split('"').next().unwrap().parse().unwrap()
        };
        assert!((width(COLOURS[1]) / width(COLOURS[0]) - 2.0).abs() < 0.01);
    }

    #[test]
    fn names_cannot_break_the_picture() {
        assert!(cpu_ratios(&[row("<x>", Some(1.0))], "a & b").contains("&lt;x&gt;"));
    }
}
