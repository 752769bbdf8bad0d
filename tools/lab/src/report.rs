//! The result of a run: tables, pictures, and checks.

use std::{fs, io, path::Path};

/// One question with its answer.
pub struct Section {
    pub title: &'static str,
    /// A description of the measurement.
    pub method: String,
    pub columns: Vec<String>,
    pub rows: Vec<Vec<String>>,
    pub picture: Option<Picture>,
    /// The checks, and whether each passed.
    pub checks: Vec<(String, bool)>,
}

pub struct Picture {
    pub file: &'static str,
    pub svg: String,
}

impl Section {
    pub fn check(&mut self, what: impl Into<String>, holds: bool) {
        self.checks.push((what.into(), holds));
    }

    fn markdown(&self, folder: &str) -> String {
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let rule = format!("|{}|\n", vec!["---"; self.columns.len()].join("|"));
        let rows: String = self.rows.iter().map(|row| line(row)).collect();
        let checks: String = self
            .checks
            .iter()
            .map(|(what, holds)| format!("* {}: {what}\n", if *holds { "holds" } else { "**does not hold**" }))
            .collect();
        let picture = self
            .picture
            .as_ref()
            .map_or(String::new(), |picture| format!("![{}]({folder}/{})\n\n", self.title, picture.file));
        format!("## {}\n\n{}\n\n{picture}{}{rule}{rows}\n{checks}", self.title, self.method, line(&self.columns))
    }
}

/// Writes the document, writes the pictures into a folder beside it, and prints the document.
/// Returns whether all checks passed.
pub fn write(file: &Path, pictures: &str, head: &str, sections: &[Section]) -> io::Result<bool> {
    let (folder, with_pictures) =
        (file.with_file_name(pictures), sections.iter().any(|section| section.picture.is_some()));
    fs::create_dir_all(if with_pictures { &folder } else { file.parent().unwrap_or(&folder) })?;
    for picture in sections.iter().filter_map(|section| section.picture.as_ref()) {
        fs::write(folder.join(picture.file), &picture.svg)?;
    }
    let sections_text: Vec<String> = sections.iter().map(|section| section.markdown(pictures)).collect();
    let text = format!("{head}\n{}", sections_text.join("\n"));
    fs::write(file, &text)?;
    println!("{text}\nwritten to {}", file.display());
    Ok(sections.iter().flat_map(|section| &section.checks).all(|(_, holds)| *holds))
}
