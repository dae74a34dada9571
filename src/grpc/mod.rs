//! gRPC: responses to rejections.

mod respond;

pub use respond::{grpc_response, grpc_status};
