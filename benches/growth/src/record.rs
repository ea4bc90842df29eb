//! What was measured, as it is kept in `growth.json`.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// What something costs, by name.
pub(crate) type Costs = BTreeMap<String, f64>;

/// Everything.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Where the last run was.
    pub(crate) conditions: String,
    /// By the name of the axis.
    pub(crate) curves: BTreeMap<String, Curve>,
    /// Costs of objects at the broker and of agents, see `objects.rs`.
    #[serde(default)]
    pub(crate) objects: Costs,
}

/// One axis.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Curve {
    /// How often each point was measured.
    pub(crate) rounds: usize,
    /// In order of `x`.
    pub(crate) points: Vec<Point>,
}

/// Medians of one point.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Point {
    /// How many of what grows.
    pub(crate) x: u64,
    /// Costs by the keys of their series.
    pub(crate) costs: Costs,
}

impl Record {
    /// What `path` holds; nothing if there is no such file.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) fn read(path: &Path) -> io::Result<Self> {
        match std::fs::read(path) {
            Ok(text) => Ok(serde_json::from_slice(&text)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error),
        }
    }

    /// Writes it to `path`.
    ///
    /// # Errors
    /// When that fails.
    pub(crate) fn write(&self, path: &Path) -> io::Result<()> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(path, format!("{}\n", serde_json::to_string_pretty(self)?))
    }
}

impl Curve {
    /// The first and the last point at which this was measured.
    pub(crate) fn ends(&self, key: &str) -> Option<[(f64, f64); 2]> {
        let place = |point: &Point| Some((point.x as f64, *point.costs.get(key)?));
        let mut points = self.points.iter().filter_map(place);
        let first = points.next()?;
        Some([first, points.next_back()?])
    }

    /// The points at which this cost was measured.
    pub(crate) fn series(&self, key: &str) -> Vec<(f64, f64)> {
        let place = |point: &Point| Some((point.x as f64, *point.costs.get(key)?));
        self.points
            .iter()
            .filter_map(place)
            .filter(|(_, y)| *y > 0.0)
            .collect()
    }
}
