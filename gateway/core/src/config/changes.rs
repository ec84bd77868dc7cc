//! What a new configuration changes.
use super::model::Gateway;
use super::report::Report;
/// x
pub struct Changes;
/// x
pub fn compare(_: &Gateway, _: &Gateway) -> Changes {
    Changes
}
impl Changes {
    /// x
    pub fn lines(&self) -> Vec<String> {
        vec![]
    }
    /// x
    pub fn needs_restart(&self) -> bool {
        false
    }
    /// x
    pub fn refusal(&self, r: &Report) -> Report {
        r.clone()
    }
}
