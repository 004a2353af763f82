//! Frontend messages as bytes, right or wrong.

/// Protocol 3.0.
pub const V3_0: u32 = 3 << 16;
/// Protocol 3.2.
pub const V3_2: u32 = (3 << 16) | 2;
/// SSLRequest.
pub const SSL_REQUEST: u32 = (1234 << 16) | 5679;
/// GSSENCRequest.
pub const GSSENC_REQUEST: u32 = (1234 << 16) | 5680;
/// CancelRequest.
pub const CANCEL_REQUEST: u32 = (1234 << 16) | 5678;

/// A message: tag, length, body.
pub fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag];
    bytes.extend_from_slice(&length_of(body.len() + 4));
    bytes.extend_from_slice(body);
    bytes
}

/// A packet before the first message: length, code, body.
pub fn packet(code: u32, body: &[u8]) -> Vec<u8> {
    let mut bytes = length_of(body.len() + 8).to_vec();
    bytes.extend_from_slice(&code.to_be_bytes());
    bytes.extend_from_slice(body);
    bytes
}

/// StartupMessage.
pub fn startup(version: u32, parameters: &[(&str, &str)]) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, value) in parameters {
        string(&mut body, name);
        string(&mut body, value);
    }
    body.push(0);
    packet(version, &body)
}

/// CancelRequest.
pub fn cancel(process: i32, secret: &[u8]) -> Vec<u8> {
    let mut body = process.to_be_bytes().to_vec();
    body.extend_from_slice(secret);
    packet(CANCEL_REQUEST, &body)
}

/// PasswordMessage with a password or an md5 hash.
pub fn password(password: &str) -> Vec<u8> {
    let mut body = Vec::new();
    string(&mut body, password);
    message(b'p', &body)
}

/// SASLInitialResponse.
pub fn sasl_initial(mechanism: &str, data: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    string(&mut body, mechanism);
    body.extend_from_slice(&length_of(data.len()));
    body.extend_from_slice(data);
    message(b'p', &body)
}

/// Query.
pub fn query(sql: &str) -> Vec<u8> {
    let mut body = Vec::new();
    string(&mut body, sql);
    message(b'Q', &body)
}

/// Parse without parameter types.
pub fn parse(name: &str, sql: &str) -> Vec<u8> {
    let mut body = Vec::new();
    string(&mut body, name);
    string(&mut body, sql);
    body.extend_from_slice(&0u16.to_be_bytes());
    message(b'P', &body)
}

/// Bind with parameters and results as text.
pub fn bind(portal: &str, statement: &str, parameters: &[Option<&str>]) -> Vec<u8> {
    bind_with_formats(portal, statement, parameters, &[])
}

/// Bind that chooses formats for the result's columns.
pub fn bind_with_formats(
    portal: &str,
    statement: &str,
    parameters: &[Option<&str>],
    formats: &[u16],
) -> Vec<u8> {
    let mut body = Vec::new();
    string(&mut body, portal);
    string(&mut body, statement);
    body.extend_from_slice(&0u16.to_be_bytes());
    let count = u16::try_from(parameters.len()).expect("few parameters");
    body.extend_from_slice(&count.to_be_bytes());
    for parameter in parameters {
        match parameter {
            None => body.extend_from_slice(&(-1i32).to_be_bytes()),
            Some(value) => {
                body.extend_from_slice(&length_of(value.len()));
                body.extend_from_slice(value.as_bytes());
            }
        }
    }
    body.extend_from_slice(&u16::try_from(formats.len()).expect("few formats").to_be_bytes());
    formats.iter().for_each(|format| body.extend_from_slice(&format.to_be_bytes()));
    message(b'B', &body)
}

/// Execute; a limit of 0 is none.
pub fn execute(portal: &str, rows: u32) -> Vec<u8> {
    let mut body = Vec::new();
    string(&mut body, portal);
    body.extend_from_slice(&rows.to_be_bytes());
    message(b'E', &body)
}

/// Describe a statement (`b'S'`) or a portal (`b'P'`).
pub fn describe(kind: u8, name: &str) -> Vec<u8> {
    let mut body = vec![kind];
    string(&mut body, name);
    message(b'D', &body)
}

/// Close a statement (`b'S'`) or a portal (`b'P'`).
pub fn close(kind: u8, name: &str) -> Vec<u8> {
    let mut body = vec![kind];
    string(&mut body, name);
    message(b'C', &body)
}

/// Sync.
pub fn sync() -> Vec<u8> {
    message(b'S', &[])
}

/// Flush.
pub fn flush() -> Vec<u8> {
    message(b'H', &[])
}

/// Terminate.
pub fn terminate() -> Vec<u8> {
    message(b'X', &[])
}

/// CopyData.
pub fn copy_data(data: &[u8]) -> Vec<u8> {
    message(b'd', data)
}

/// CopyDone.
pub fn copy_done() -> Vec<u8> {
    message(b'c', &[])
}

/// CopyFail.
pub fn copy_fail(reason: &str) -> Vec<u8> {
    let mut body = Vec::new();
    string(&mut body, reason);
    message(b'f', &body)
}

/// FunctionCall with arguments and result as text.
pub fn function_call(oid: u32, arguments: &[&str]) -> Vec<u8> {
    let mut body = oid.to_be_bytes().to_vec();
    body.extend_from_slice(&0u16.to_be_bytes());
    body.extend_from_slice(&u16::try_from(arguments.len()).expect("few arguments").to_be_bytes());
    for argument in arguments {
        body.extend_from_slice(&length_of(argument.len()));
        body.extend_from_slice(argument.as_bytes());
    }
    body.extend_from_slice(&0u16.to_be_bytes());
    message(b'F', &body)
}

/// Parse, Bind, Describe, Execute of the unnamed statement, without a Sync.
pub fn extended(sql: &str, parameters: &[Option<&str>]) -> Vec<u8> {
    [parse("", sql), bind("", "", parameters), describe(b'P', ""), execute("", 0)].concat()
}

fn string(to: &mut Vec<u8>, text: &str) {
    to.extend_from_slice(text.as_bytes());
    to.push(0);
}

fn length_of(length: usize) -> [u8; 4] {
    u32::try_from(length).expect("a short message").to_be_bytes()
}
