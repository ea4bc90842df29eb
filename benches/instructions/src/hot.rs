//! The hot paths: what every message passes, in pieces small enough to tell where something grew.

mod engine;
mod memory;
mod messages;

/// One path, and how to set it up.
pub(crate) struct HotPath {
    /// `room/what/size`.
    pub(crate) name: &'static str,
    /// How many operations one round of the work does.
    pub(crate) operations: u64,
    /// Makes what the work needs. The work is done twice: the first round fills what is kept, the second counts.
    pub(crate) prepare: fn() -> Work,
}

/// One round.
pub(crate) type Work = Box<dyn FnMut()>;

/// All of them.
pub(crate) fn hot_paths() -> Vec<HotPath> {
    let mut paths = messages::hot_paths();
    paths.extend(engine::hot_paths());
    paths.extend(memory::hot_paths());
    paths
}

#[cfg(test)]
mod tests {
    use super::hot_paths;

    #[test]
    fn every_hot_path_runs_twice() {
        for path in hot_paths() {
            let mut work = (path.prepare)();
            work();
            work();
        }
    }

    #[test]
    fn names_are_different() {
        let mut names: Vec<_> = hot_paths().iter().map(|path| path.name).collect();
        names.sort_unstable();
        let before = names.len();
        names.dedup();
        assert_eq!(names.len(), before);
    }
}
