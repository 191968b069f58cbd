// The service both sides know; messages are plain bytes.
const bytes = (buffer) => buffer;
const method = (name, streaming) => ({
  path: `/test.Echo/${name}`,
  requestStream: streaming,
  responseStream: streaming,
  requestSerialize: bytes,
  requestDeserialize: bytes,
  responseSerialize: bytes,
  responseDeserialize: bytes,
});

export const service = {
  echo: method("Echo", false),
  fail: method("Fail", false),
  stream: method("Stream", true),
};
