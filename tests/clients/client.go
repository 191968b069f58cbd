// Command client calls a URL with net/http and prints status, body and peer address.
package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"os"
	"strings"
	"time"
)

func main() {
	peer := ""
	trace := &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
		peer = info.Conn.RemoteAddr().String()
	}}
	request, err := http.NewRequest(http.MethodGet, os.Args[1], nil)
	if err != nil {
		panic(err)
	}
	request = request.WithContext(httptrace.WithClientTrace(request.Context(), trace))
	response, err := (&http.Client{Timeout: 10 * time.Second}).Do(request)
	if err != nil {
		panic(err)
	}
	body, err := io.ReadAll(response.Body)
	if err != nil {
		panic(err)
	}
	fmt.Printf("net/http %d %s %s\n", response.StatusCode, strings.TrimSpace(string(body)), peer)
}
