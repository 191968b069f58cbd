//! Bodies on their way: streamed with back-pressure, never collected.

mod download;
mod upload;

pub(super) use self::download::Pooled;
pub use self::download::ResponseBody;
pub use self::upload::RequestBody;
pub(super) use self::upload::Upload;
