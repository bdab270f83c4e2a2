//! `recommender evaluate --sweep`: one parameter at several values, to see what it buys and what it costs.

use std::path::Path;
use std::process::ExitCode;
use std::str::FromStr;

use anyhow::Context as _;
use comfy_table::{Table, presets};
use recommender_engine::Algorithm;
use recommender_engine::eval::{Dataset, Metrics, Params, Trained};
use serde::Serialize;

use super::super::{Output, print};
use super::plots::{Named, Panel, Scale, Titled, picture};
use super::{Args, load, report, set};

/// A parameter, and the values that it takes one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sweep {
    /// As `--param` names it.
    key: String,
    values: Vec<String>,
}

impl FromStr for Sweep {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || format!("{text}: expected key=value,value,…, as in diversity=0,0.5,1");
        let (key, values) = text.split_once('=').ok_or_else(expected)?;
        let values: Vec<String> = values
            .split(',')
            .map(|value| value.trim().to_owned())
            .filter(|value| !value.is_empty())
            .collect();
        if key.trim().is_empty() || values.len() < 2 {
            return Err(expected());
        }
        Ok(Self {
            key: key.trim().to_owned(),
            values,
        })
    }
}

/// One model at one value.
#[derive(Debug, Serialize)]
pub(super) struct Point {
    pub model: &'static str,
    parameter: String,
    pub value: String,
    #[serde(flatten)]
    pub metrics: Metrics,
}

/// Asks every model at every value.
pub(super) fn run(args: &Args, models: &[Algorithm], sweep: &Sweep) -> anyhow::Result<ExitCode> {
    let data = load::load(args)?;
    let mut start = Params::for_dataset(&data);
    set(&mut start, &args.params)?;
    let mut points = Vec::new();
    for model in models {
        points.extend(swept(args, &data, *model, &start, sweep)?);
    }
    if args.output == Output::Text {
        print(format!("{}\n", table(&points, sweep, args.k)).as_bytes())?;
    }
    if let Some(path) = &args.plot {
        write(path, &plot(&points, sweep, args.k))?;
    }
    if let Some(path) = &args.report {
        report::write(path, &report::of_sweep(&points, &sweep.key, args.k))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn swept(
    args: &Args,
    data: &Dataset,
    model: Algorithm,
    start: &Params,
    sweep: &Sweep,
) -> anyhow::Result<Vec<Point>> {
    let mut points = Vec::new();
    let mut trained: Option<Trained<'_>> = None;
    for value in &sweep.values {
        let mut params = start.clone();
        params.set(&sweep.key, value)?;
        // Only what the value changes is learned or fitted anew.
        let asked = match &mut trained {
            Some(trained) => {
                trained.change(&params, fitted(model, &params))?;
                trained
            }
            None => trained.insert(Trained::new(data, model, &params, args.threads)?),
        };
        let point = Point {
            model: model.name(),
            parameter: sweep.key.clone(),
            value: value.clone(),
            metrics: asked.metrics(args.k, |_| {}),
        };
        match args.output {
            Output::Json => drop(print(format!("{}\n", serde_json::to_string(&point)?).as_bytes())?),
            Output::Text => eprintln!("{} {}={value}: done", model.name(), sweep.key),
        }
        points.push(point);
    }
    Ok(points)
}

/// The fitted models that a model asks.
fn fitted(model: Algorithm, params: &Params) -> &'static [Algorithm] {
    use Algorithm::{Ease, Hybrid, ImplicitAls};
    match (model, params.blend.ease > 0.0, params.blend.als > 0.0) {
        (Ease, ..) | (Hybrid, true, false) => &[Ease],
        (ImplicitAls, ..) | (Hybrid, false, true) => &[ImplicitAls],
        (Hybrid, true, true) => &[Ease, ImplicitAls],
        _ => &[],
    }
}

fn table(points: &[Point], sweep: &Sweep, k: usize) -> Table {
    let mut table = Table::new();
    let header = [
        "model".to_owned(),
        sweep.key.clone(),
        format!("recall@{k}"),
        format!("ndcg@{k}"),
        "hit rate".to_owned(),
        "mrr".to_owned(),
        "coverage".to_owned(),
        "novelty".to_owned(),
        "diversity".to_owned(),
        "gini".to_owned(),
    ];
    table
        .load_preset(presets::UTF8_HORIZONTAL_ONLY)
        .set_header(header);
    for point in points {
        let m = &point.metrics;
        let mut row = vec![point.model.to_owned(), point.value.clone()];
        row.extend([m.recall, m.ndcg, m.hit_rate, m.mrr].map(|v| format!("{v:.4}")));
        row.extend([m.coverage, m.novelty, m.diversity, m.gini].map(|v| format!("{v:.3}")));
        table.add_row(row);
    }
    table
}

/// NDCG against coverage and against diversity: a line a model, a dot a value.
pub(super) fn panels(points: &[Point], key: &str, k: usize) -> Vec<Titled> {
    let ndcg = format!("NDCG@{k}");
    let against = |name: &str, value: fn(&Metrics) -> f64, write: &dyn Fn(f64) -> String| {
        let lines: Vec<Named<'_>> = points
            .chunk_by(|a, b| a.model == b.model)
            .map(|of_model| Named {
                name: of_model[0].model,
                points: of_model
                    .iter()
                    .map(|point| (value(&point.metrics), point.metrics.ndcg))
                    .collect(),
                marks: of_model.iter().map(|point| point.value.clone()).collect(),
            })
            .collect();
        let title = format!("{ndcg} against {name}; beside each dot the {key} asked for");
        let panel = Panel {
            title: &title,
            x: Scale { name, write },
            y: Scale {
                name: &ndcg,
                write: &|value| format!("{value:.3}"),
            },
        };
        let drawing = panel.draw(&lines);
        (title, drawing)
    };
    vec![
        against("coverage of the catalogue", |m| m.coverage, &|v| {
            format!("{:.0} %", v * 100.0)
        }),
        against("diversity of an answer", |m| m.diversity, &|v| format!("{v:.2}")),
    ]
}

fn plot(points: &[Point], sweep: &Sweep, k: usize) -> String {
    picture(&panels(points, &sweep.key, k))
}

fn write(path: &Path, svg: &str) -> anyhow::Result<()> {
    std::fs::write(path, svg).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(model: &'static str, value: &str, ndcg: f64, coverage: f64) -> Point {
        let metrics = Metrics {
            ndcg,
            coverage,
            diversity: coverage * 2.0,
            ..Metrics::default()
        };
        Point {
            model,
            parameter: "diversity".into(),
            value: value.into(),
            metrics,
        }
    }

    #[test]
    fn a_sweep_names_a_parameter_and_two_values_at_least() {
        let sweep: Sweep = "diversity=0, 0.5,1".parse().unwrap();
        assert_eq!((sweep.key.as_str(), sweep.values.len()), ("diversity", 3));
        for wrong in ["diversity", "diversity=", "diversity=1", "=1,2"] {
            assert!(wrong.parse::<Sweep>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn every_model_has_a_line_and_every_value_a_dot_in_both_plots() {
        let points = [
            point("Ease", "0", 0.12, 0.3),
            point("Ease", "1", 0.08, 0.4),
            point("Hybrid", "0", 0.13, 0.2),
            point("Hybrid", "1", 0.05, 0.5),
        ];
        let svg = picture(&panels(&points, "diversity", 20));
        assert_eq!(
            (svg.matches("<polyline").count(), svg.matches("<circle").count()),
            (4, 8)
        );
        assert!(svg.starts_with("<svg xmlns=") && svg.contains("NDCG@20 against coverage"));
        for elsewhere in ["<script", "@import", "url(", "NaN"] {
            assert!(!svg.contains(elsewhere), "{elsewhere}");
        }
    }
}
