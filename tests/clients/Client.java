import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;
import java.time.Duration;

/** Calls a URL with java.net.http and prints version, status and body. */
public class Client {
    public static void main(String[] args) throws Exception {
        // The default client asks for an upgrade to h2c in its first request.
        for (var version : HttpClient.Version.values()) {
            var client = HttpClient.newBuilder().version(version).connectTimeout(Duration.ofSeconds(10)).build();
            var request = HttpRequest.newBuilder(URI.create(args[0])).timeout(Duration.ofSeconds(10)).build();
            var response = client.send(request, BodyHandlers.ofString());
            System.out.println(version + " " + response.statusCode() + " " + response.body().strip());
        }
    }
}
