// SPDX-License-Identifier: MIT
//
// Enrolls and re-enrolls through BouncyCastle's EST client.
//
// Usage: BouncyCastleClient HOST:PORT ROOT.pem USER PASSWORD OUT_DIRECTORY
// Prints one line for each step; exits with a status other than 0 on the
// first failure.

import java.io.FileInputStream;
import java.io.FileReader;
import java.io.FileWriter;
import java.io.File;
import java.security.KeyPair;
import java.security.KeyPairGenerator;
import java.security.KeyStore;
import java.security.SecureRandom;
import java.security.Security;
import java.security.cert.CertificateFactory;
import java.security.cert.TrustAnchor;
import java.security.cert.X509Certificate;
import java.security.spec.ECGenParameterSpec;
import java.util.Collections;
import java.util.Set;
import javax.net.ssl.KeyManager;
import javax.net.ssl.KeyManagerFactory;
import org.bouncycastle.asn1.ASN1ObjectIdentifier;
import org.bouncycastle.asn1.pkcs.PKCSObjectIdentifiers;
import org.bouncycastle.asn1.x500.X500Name;
import org.bouncycastle.asn1.x509.Extension;
import org.bouncycastle.asn1.x509.ExtensionsGenerator;
import org.bouncycastle.asn1.x509.GeneralName;
import org.bouncycastle.asn1.x509.GeneralNames;
import org.bouncycastle.cert.X509CertificateHolder;
import org.bouncycastle.cert.jcajce.JcaX509CertificateConverter;
import org.bouncycastle.est.CACertsResponse;
import org.bouncycastle.est.CSRRequestResponse;
import org.bouncycastle.est.ESTAuth;
import org.bouncycastle.est.ESTService;
import org.bouncycastle.est.EnrollmentResponse;
import org.bouncycastle.est.jcajce.JcaHttpAuthBuilder;
import org.bouncycastle.est.jcajce.JcaJceUtils;
import org.bouncycastle.est.jcajce.JsseESTServiceBuilder;
import org.bouncycastle.jce.provider.BouncyCastleProvider;
import org.bouncycastle.openssl.jcajce.JcaPEMWriter;
import org.bouncycastle.operator.jcajce.JcaContentSignerBuilder;
import org.bouncycastle.pkcs.PKCS10CertificationRequest;
import org.bouncycastle.pkcs.PKCS10CertificationRequestBuilder;
import org.bouncycastle.pkcs.jcajce.JcaPKCS10CertificationRequestBuilder;
import org.bouncycastle.util.Store;

public class BouncyCastleClient {
    static String name = "bc-device";

    public static void main(String[] args) throws Exception {
        Security.addProvider(new BouncyCastleProvider());
        String server = args[0];
        X509Certificate root;
        try (FileInputStream in = new FileInputStream(args[1])) {
            root = (X509Certificate) CertificateFactory.getInstance("X.509")
                .generateCertificate(in);
        }
        Set<TrustAnchor> anchors =
            Collections.singleton(new TrustAnchor(root, null));

        ESTService plain = builder(server, anchors).build();
        CACertsResponse ca = plain.getCACerts();
        System.out.println(
            "cacerts " + ca.getCertificateStore().getMatches(null).size());
        CSRRequestResponse attributes = plain.getCSRAttributes();
        System.out.println("csrattrs " + attributes.hasAttributesResponse());

        KeyPair first = newKey();
        ESTAuth auth = new JcaHttpAuthBuilder(
            null, args[2], args[3].toCharArray())
            .setNonceGenerator(new SecureRandom()).setProvider("BC").build();
        X509Certificate certificate =
            leaf(plain.simpleEnroll(false, request(first), auth));
        write(new File(args[4], "bc-first.pem"), certificate);
        System.out.println("enrolled " + certificate.getSerialNumber());

        KeyStore store = KeyStore.getInstance("PKCS12");
        store.load(null, null);
        store.setKeyEntry("device", first.getPrivate(), new char[0],
            new X509Certificate[] {certificate});
        KeyManagerFactory keys = KeyManagerFactory.getInstance(
            KeyManagerFactory.getDefaultAlgorithm());
        keys.init(store, new char[0]);
        ESTService mutual = builder(server, anchors)
            .withKeyManagers(keys.getKeyManagers()).build();
        KeyPair second = newKey();
        X509Certificate renewed =
            leaf(mutual.simpleEnroll(true, request(second), null));
        write(new File(args[4], "bc-second.pem"), renewed);
        System.out.println("renewed " + renewed.getSerialNumber());
        if (renewed.getSerialNumber().equals(certificate.getSerialNumber())) {
            throw new IllegalStateException("the renewal is not new");
        }

        auth = new JcaHttpAuthBuilder(null, args[2], "wrong".toCharArray())
            .setNonceGenerator(new SecureRandom()).setProvider("BC").build();
        try {
            plain.simpleEnroll(false, request(newKey()), auth);
            throw new IllegalStateException("a wrong password enrolled");
        } catch (org.bouncycastle.est.ESTException refused) {
            System.out.println("refused " + refused.getStatusCode());
        }
    }

    static JsseESTServiceBuilder builder(
            String server, Set<TrustAnchor> anchors) throws Exception {
        return new JsseESTServiceBuilder(
            server,
            JcaJceUtils.getCertPathTrustManager(anchors, null))
            .withTimeout(10000);
    }

    static KeyPair newKey() throws Exception {
        KeyPairGenerator generator = KeyPairGenerator.getInstance("EC");
        generator.initialize(new ECGenParameterSpec("secp256r1"));
        return generator.generateKeyPair();
    }

    static PKCS10CertificationRequest request(KeyPair key) throws Exception {
        PKCS10CertificationRequestBuilder builder =
            new JcaPKCS10CertificationRequestBuilder(
                new X500Name("CN=" + name), key.getPublic());
        ExtensionsGenerator extensions = new ExtensionsGenerator();
        extensions.addExtension(Extension.subjectAlternativeName, false,
            new GeneralNames(
                new GeneralName(GeneralName.dNSName, name + ".example")));
        builder.addAttribute(
            PKCSObjectIdentifiers.pkcs_9_at_extensionRequest,
            extensions.generate());
        return builder.build(
            new JcaContentSignerBuilder("SHA256withECDSA")
                .build(key.getPrivate()));
    }

    static X509Certificate leaf(EnrollmentResponse response)
            throws Exception {
        if (!response.isCompleted()) {
            throw new IllegalStateException("not completed");
        }
        X509CertificateHolder holder = response.getStore()
            .getMatches(null).iterator().next();
        return new JcaX509CertificateConverter().getCertificate(holder);
    }

    static void write(File file, Object pem) throws Exception {
        try (JcaPEMWriter out = new JcaPEMWriter(new FileWriter(file))) {
            out.writeObject(pem);
        }
    }
}
