# Sourced by `up`: keys, certificates and kubeconfigs of everybody in the cluster, in $CLUSTER_STATE/pki.
PKI=$CLUSTER_STATE/pki

new_key() { openssl ecparam -name prime256v1 -genkey -noout -out "$PKI/$1.key" 2>/dev/null; }

authority() {
  new_key ca
  openssl req -x509 -new -key "$PKI/ca.key" -subj /CN=test-cluster -days 3650 -out "$PKI/ca.crt" \
    -addext keyUsage=critical,keyCertSign,cRLSign,digitalSignature 2>/dev/null
}

# certificate FILE SUBJECT [NAMES]
certificate() {
  new_key "$1"
  {
    echo "keyUsage=critical,digitalSignature"
    echo "extendedKeyUsage=serverAuth,clientAuth"
    [ -z "${3:-}" ] || echo "subjectAltName=$3"
  } > "$PKI/$1.extensions"
  openssl req -new -key "$PKI/$1.key" -subj "$2" 2>/dev/null |
    openssl x509 -req -CA "$PKI/ca.crt" -CAkey "$PKI/ca.key" -set_serial "0x$(openssl rand -hex 8)" -days 3650 \
      -extfile "$PKI/$1.extensions" -out "$PKI/$1.crt" 2>/dev/null
}

# kubeconfig NAME: for who has the certificate of that name
kubeconfig() {
  cat > "$CLUSTER_STATE/$1.conf" <<YAML
apiVersion: v1
kind: Config
clusters: [{name: test, cluster: {server: "$API_SERVER", certificate-authority: $PKI/ca.crt}}]
users: [{name: $1, user: {client-certificate: $PKI/$1.crt, client-key: $PKI/$1.key}}]
contexts: [{name: test, context: {cluster: test, user: $1}}]
current-context: test
YAML
}

# client NAME SUBJECT [NAMES]
client() {
  certificate "$@"
  kubeconfig "$1"
}

credentials() {
  local node
  mkdir -p "$PKI"
  authority
  new_key accounts
  openssl ec -in "$PKI/accounts.key" -pubout -out "$PKI/accounts.pub" 2>/dev/null
  certificate apiserver /CN=kube-apiserver "DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,\
DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.$DOMAIN,IP:127.0.0.1,IP:$SERVICES.0.1,IP:$(node_address 1)"
  certificate kubelet-client /O=system:masters/CN=kube-apiserver-kubelet-client
  certificate front-proxy /CN=front-proxy-client
  client admin /O=system:masters/CN=admin
  client controllers /CN=system:kube-controller-manager
  client scheduler /CN=system:kube-scheduler
  client kube-proxy /CN=system:kube-proxy
  client coredns /CN=coredns
  for node in $(nodes); do
    client "$node" "/O=system:nodes/CN=system:node:$node" "DNS:$node,IP:$(node_address "$(number "$node")")"
  done
}
