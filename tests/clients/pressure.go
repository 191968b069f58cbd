// Command pressure sends requests at a steady rate and tells which failed and for how long.
//
//	pressure [-rate 200] [-keep] [-expect TEXT] [-first 30s] URL...
//
// It goes on until SIGTERM or SIGINT, or until its standard input ends, and then prints a summary as JSON. A request
// fails if it has no answer within 3 s, another status than 200, or a body without TEXT. Every request has a connection of
// its own, or, with -keep, one out of a pool. With -first, it ends at the first success, or when that much time is over.
//
//	pressure -tcp [-rate 200] HOST:PORT...
//
// The same with a line that comes back over TCP.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"
)

const patience = 3 * time.Second

type failure struct {
	At    string `json:"at"`
	Ms    int64  `json:"ms"`
	Error string `json:"error"`
}

type summary struct {
	Requests int `json:"requests"`
	// As many as the rate makes in that time.
	Due       int   `json:"due"`
	Failed    int   `json:"failed"`
	SlowestMs int64 `json:"slowest_ms"`
	// From the begin of the first failed request to the end of the last one.
	OutageMs int64 `json:"outage_ms"`
	// Milliseconds of 1970's begin.
	FirstSuccess int64     `json:"first_success"`
	LastFailure  int64     `json:"last_failure"`
	Failures     []failure `json:"failures"` // the first ones
}

type record struct {
	sync.Mutex
	summary
	firstFailure, lastFailure time.Time
}

func (r *record) add(begin time.Time, err error) {
	end := time.Now()
	elapsed := end.Sub(begin).Milliseconds()
	r.Lock()
	defer r.Unlock()
	r.Requests++
	r.SlowestMs = max(r.SlowestMs, elapsed)
	if err == nil {
		if r.FirstSuccess == 0 || end.UnixMilli() < r.FirstSuccess {
			r.FirstSuccess = end.UnixMilli()
		}
		return
	}
	r.Failed++
	r.LastFailure = end.UnixMilli()
	if r.firstFailure.IsZero() || begin.Before(r.firstFailure) {
		r.firstFailure = begin
	}
	r.lastFailure = end
	r.OutageMs = r.lastFailure.Sub(r.firstFailure).Milliseconds()
	if len(r.Failures) < 20 {
		r.Failures = append(r.Failures, failure{begin.Format("15:04:05.000"), elapsed, err.Error()})
	}
}

func main() {
	rate := flag.Int("rate", 200, "requests a second")
	keep := flag.Bool("keep", false, "keep connections")
	tcp := flag.Bool("tcp", false, "lines over TCP")
	expect := flag.String("expect", "", "what is in every answer")
	first := flag.Duration("first", 0, "until the first success, at most for so long")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	go func() {
		io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	if *first > 0 {
		time.AfterFunc(*first, stop)
	}

	request := overHTTP(*keep, *expect)
	if *tcp {
		request = overTCP
	}
	var all sync.WaitGroup
	var result record
	begin := time.Now()
	due := func() int { return int(time.Since(begin).Seconds() * float64(*rate)) }
	number, ticks := 0, 0
	ticker := time.NewTicker(time.Second / time.Duration(*rate))
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			result.Due = due()
			all.Wait()
			json.NewEncoder(os.Stdout).Encode(result.summary)
			return
		}
		// A busy machine drops ticks. Those of up to a tenth of a second are made up for.
		before := ticks
		ticks = max(due(), before+1)
		for range min(ticks-before, max(*rate/10, 1)) {
			target := flag.Arg(number % flag.NArg())
			number++
			all.Go(func() {
				begin := time.Now()
				err := request(target)
				result.add(begin, err)
				if err == nil && *first > 0 {
					stop()
				}
			})
		}
	}
}

func overHTTP(keep bool, expect string) func(string) error {
	client := http.Client{
		Timeout: patience,
		Transport: &http.Transport{
			DisableKeepAlives:   !keep,
			MaxIdleConnsPerHost: 100,
		},
	}
	return func(url string) error {
		response, err := client.Get(url)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if err != nil {
			return err
		}
		if response.StatusCode != http.StatusOK || !strings.Contains(string(body), expect) {
			return fmt.Errorf("%s: %s", response.Status, body)
		}
		return nil
	}
}

func overTCP(address string) error {
	connection, err := net.DialTimeout("tcp", address, patience)
	if err != nil {
		return err
	}
	defer connection.Close()
	connection.SetDeadline(time.Now().Add(patience))
	if _, err := fmt.Fprintln(connection, "hello"); err != nil {
		return err
	}
	line, err := bufio.NewReader(connection).ReadString('\n')
	if err == nil && line != "hello\n" {
		err = errors.New("wrong line: " + line)
	}
	return err
}
