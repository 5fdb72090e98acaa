// HTTP/2 over cleartext by Go's net/http: `http2-peer serve` is an upstream that says where it listens and ends with its
// input, `http2-peer call URL` a client that checks what comes back.
package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
)

func only2() *http.Protocols {
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	return protocols
}

func main() {
	var err error
	switch {
	case len(os.Args) == 2 && os.Args[1] == "serve":
		err = serve()
	case len(os.Args) == 3 && os.Args[1] == "call":
		err = call(os.Args[2])
	default:
		err = fmt.Errorf("usage: %s serve | call URL", os.Args[0])
	}
	if err != nil {
		fmt.Println("failed:", err)
		os.Exit(1)
	}
}

// serve answers every request with its body and, in a trailer, the hash of it.
func serve() error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/early" {
			http.Error(w, "no", http.StatusRequestEntityTooLarge)
			return
		}
		w.Header().Set("Trailer", "X-Hash")
		w.Header().Set("X-Proto", r.Proto)
		w.Header().Set("X-Host", r.Host)
		w.WriteHeader(http.StatusOK)
		w.(http.Flusher).Flush()
		hash := sha256.New()
		buffer := make([]byte, 32<<10)
		for {
			n, err := r.Body.Read(buffer)
			hash.Write(buffer[:n])
			if _, failed := w.Write(buffer[:n]); failed != nil {
				return
			}
			w.(http.Flusher).Flush()
			if err != nil {
				break
			}
		}
		w.Header().Set("X-Hash", hex.EncodeToString(hash.Sum(nil)))
	})
	server := &http.Server{Handler: handler, Protocols: only2()}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	fmt.Println("listening", listener.Addr())
	return server.Serve(listener)
}

func call(url string) error {
	client := &http.Client{Transport: &http.Transport{Protocols: only2()}}
	checks := []struct {
		name string
		run  func(*http.Client, string) error
	}{{"sizes", sizes}, {"concurrent", concurrent}, {"bidirectional", bidirectional}, {"head", head}, {"early", early}}
	for _, check := range checks {
		if err := check.run(client, url); err != nil {
			return fmt.Errorf("%s: %w", check.name, err)
		}
	}
	fmt.Println("passed", len(checks))
	return nil
}

// exchange posts a body and demands it back, with its hash in a trailer.
func exchange(client *http.Client, url string, body []byte) error {
	request, err := http.NewRequest("POST", url, io.NopCloser(bytes.NewReader(body)))
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	back, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(body)
	if response.ProtoMajor != 2 || response.StatusCode != 200 || !bytes.Equal(back, body) {
		return fmt.Errorf("%s %d, %d octets of %d", response.Proto, response.StatusCode, len(back), len(body))
	}
	if got := response.Trailer.Get("X-Hash"); got != hex.EncodeToString(sum[:]) {
		return fmt.Errorf("the hash in the trailer is %q", got)
	}
	return nil
}

func sizes(client *http.Client, url string) error {
	for _, size := range []int{0, 1, 16383, 16384, 16385, 65535, 65536, 1 << 20, 9 << 20} {
		if err := exchange(client, url, bytes.Repeat([]byte{byte(size)}, size)); err != nil {
			return fmt.Errorf("%d octets: %w", size, err)
		}
	}
	return nil
}

func concurrent(client *http.Client, url string) error {
	var group sync.WaitGroup
	failures := make(chan error, 200)
	for n := range 200 {
		group.Go(func() { failures <- exchange(client, url, bytes.Repeat([]byte{byte(n)}, 317*n)) })
	}
	group.Wait()
	close(failures)
	for err := range failures {
		if err != nil {
			return err
		}
	}
	return nil
}

func bidirectional(client *http.Client, url string) error {
	reader, writer := io.Pipe()
	request, err := http.NewRequest("POST", url, reader)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	buffer := make([]byte, 4)
	for range 50 {
		if _, err := writer.Write([]byte("ping")); err != nil {
			return err
		}
		if _, err := io.ReadFull(response.Body, buffer); err != nil {
			return err
		}
	}
	writer.Close()
	rest, err := io.ReadAll(response.Body)
	if err != nil || len(rest) != 0 {
		return fmt.Errorf("%d octets more, %w", len(rest), err)
	}
	return nil
}

func head(client *http.Client, url string) error {
	response, err := client.Head(url)
	if err != nil {
		return err
	}
	response.Body.Close()
	if response.Header.Get("X-Host") == "" || !strings.HasPrefix(response.Header.Get("X-Proto"), "HTTP/") {
		return fmt.Errorf("%v", response.Header)
	}
	return nil
}

// early sends more than anyone reads and must get the answer all the same.
func early(client *http.Client, url string) error {
	response, err := client.Post(url+"/early", "application/octet-stream", bytes.NewReader(make([]byte, 4<<20)))
	if err != nil {
		return err
	}
	response.Body.Close()
	if response.StatusCode != http.StatusRequestEntityTooLarge {
		return fmt.Errorf("status %d", response.StatusCode)
	}
	return nil
}
