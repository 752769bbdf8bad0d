//! The costs of the protocol, as ratios, all measured in one run of `make costs`. Each file
//! measures one figure. The long run writes `docs/costs.md` and `docs/costs.svg`. `--short` shows
//! in half a minute that everything works, and writes below `target`.

mod environment;
mod figure;
mod fleet;
mod floors;
mod lists;
#[allow(dead_code)]
mod numbers;
mod plot;
mod polls;
mod writes;

use std::{env, fs, path::Path, time::Instant};

use clap::Parser;

use environment::Environment;
use figure::Figure;

#[derive(Parser)]
struct Arguments {
    /// Only shows that everything works
    #[arg(long)]
    short: bool,
    /// The flag that cargo passes to every bench
    #[arg(long, hide = true)]
    bench: bool,
}

#[tokio::main]
async fn main() {
    let Arguments { short, .. } = Arguments::parse();
    let variable = |name: &str| {
        let value = env::var(name).ok().filter(|value| !value.is_empty());
        value.unwrap_or_else(|| panic!("{name} isn't set: run scripts/costs.sh"))
    };
    let environment = Environment::new(&variable("DATABASE_URL"), &variable("REDIS_URL"), short);
    let place_lines = environment.description().await;

    let begun = Instant::now();
    let stage = |title: &str| eprintln!("{:>4} s  {title}", begun.elapsed().as_secs());
    // This figure comes first, because it measures the memory of the whole process.
    stage("floors");
    let floors = floors::measure(&environment).await;
    stage("writes");
    let writes = writes::measure(&environment).await;
    stage("polls");
    let polls = polls::measure(&environment).await;
    stage("lists");
    let lists = lists::measure(&environment).await;
    stage("fleet");
    let fleet = fleet::measure(&environment).await;
    stage("done");

    let figures = [writes, polls, floors, lists, fleet];
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = root.join(if short { "target/costs" } else { "docs" });
    fs::create_dir_all(&folder).expect("a folder for the figures");
    let text = document(&place_lines, &figures);
    fs::write(folder.join("costs.md"), &text).expect("the figures are written");
    fs::write(folder.join("costs.svg"), plot::svg(&figures)).expect("the plot is written");
    println!("{text}\nwritten to {}", folder.display());
}

fn document(environment: &[String], figures: &[Figure]) -> String {
    let environment: String = environment.iter().map(|line| format!("* {line}\n")).collect();
    let sections: Vec<String> = figures.iter().map(Figure::markdown).collect();
    format!(
        "# What it costs\n\n\
         Written by `make costs`, all in one run. Read the ratios, because times depend on the machine. A cell is the median of the rounds \
         and, in brackets, the lowest and the highest; the ratios are of variants measured in the same round, one after another.\n\n\
         {environment}\n![All ratios](costs.svg)\n\n{}",
        sections.join("\n")
    )
}
