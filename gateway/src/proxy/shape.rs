//! What a route changes on requests and answers that pass it; a route that changes nothing pays nothing.

pub(crate) mod rewrite;
